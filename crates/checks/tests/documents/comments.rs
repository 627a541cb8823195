use crate::Finding;
use crate::tree::{Tree, has_extension, text_of};

/// Maximum length of a comment line, with its indentation.
const MAX_COLUMNS: usize = 100;

/// Returns the comment lines of Rust sources that are too long.
pub(crate) fn too_long(tree: &Tree) -> Vec<Finding> {
    let sources = tree.files().filter(|path| has_extension(path, "rs"));
    let texts = sources.filter_map(|path| Some((path, text_of(path)?)));
    texts.flat_map(|(path, text)| too_long_in(path, &text)).collect()
}

/// Returns the comment lines of a source that are too long.
pub(crate) fn too_long_in(path: &str, text: &str) -> Vec<Finding> {
    let lines = (1..).zip(text.lines());
    let long = lines.filter_map(|(line, text)| {
        let columns = text.chars().count();
        let comment = text.trim_start().strip_prefix("//")?;
        let what = || format!("the comment line has {columns} columns, more than {MAX_COLUMNS}");
        (columns > MAX_COLUMNS && !is_url(comment)).then(|| Finding {
            file: path.to_owned(),
            line,
            what: what(),
        })
    });
    long.collect()
}

/// Returns `true` if a comment line consists of a URL, which can't be wrapped.
fn is_url(comment: &str) -> bool {
    let text = comment.trim_start_matches(['/', '!']).trim();
    let url = text.trim_start_matches(['(', '<']);
    !text.contains(char::is_whitespace)
        && ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
}
