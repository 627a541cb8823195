use crate::Finding;
use crate::tree::text_of;

/// Files that name the version of Rust, each with the text before it.
const PLACES: [(&str, &str); 4] = [
    ("rust-toolchain.toml", "channel = \""),
    ("deploy/Dockerfile", "BUILD_IMAGE=rust:"),
    (".github/workflows/ci.yml", "container: rust:"),
    ("README.md", "Rust "),
];

/// Returns the places that name another minimum version of Rust than `rust-version` in
/// `Cargo.toml`.
pub(crate) fn differing() -> Vec<Finding> {
    let manifest = text_of("Cargo.toml").unwrap();
    let wanted = version_after(&manifest, "rust-version = \"").unwrap().1;
    let differing = PLACES.iter().filter_map(|(file, before)| {
        let text = text_of(file).unwrap();
        let (line, found) = version_after(&text, before).unwrap_or((1, "no version of Rust"));
        let what = format!("{found}, and Cargo.toml's rust-version is {wanted}");
        (found != wanted).then(|| Finding { file: (*file).to_owned(), line, what })
    });
    differing.collect()
}

/// Returns the first `major.minor` that follows this text, and its line.
fn version_after<'a>(text: &'a str, before: &str) -> Option<(usize, &'a str)> {
    let lines = text.lines().enumerate();
    let mut found =
        lines.flat_map(|(at, line)| line.split(before).skip(1).map(move |it| (at + 1, it)));
    found.find_map(|(line, rest)| {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let mut parts = rest[..end].split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        let length = major.len() + 1 + minor.len();
        (!major.is_empty() && !minor.is_empty()).then(|| (line, &rest[..length]))
    })
}
