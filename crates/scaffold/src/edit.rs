use crate::Error;

/// Inserts a line in rustfmt's order among the lines of a file with a prefix, or after the last of
/// them.
pub(crate) fn insert_sorted(
    path: &str,
    text: &str,
    begins: &str,
    line: &str,
) -> Result<String, Error> {
    let alike = || text.lines().enumerate().filter(|(_, it)| it.starts_with(begins));
    let after = alike().take_while(|(_, it)| in_order(it) < in_order(line)).last();
    match (after, alike().next()) {
        (Some((at, _)), _) => Ok(insert(text, at + 1, line)),
        (None, Some((at, _))) => Ok(insert(text, at, line)),
        (None, None) => Err(missing_anchor(path, begins)),
    }
}

/// A part of a line, in rustfmt's order: `a_1`, `a1`, `a2`, `a10`, `aa`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Underscore,
    Number(u128),
    Other(char),
}

/// Returns the parts by which a line is sorted.
fn in_order(line: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for next in line.trim_end_matches(';').chars() {
        match (next, next.to_digit(10), parts.last_mut()) {
            (_, Some(digit), Some(Part::Number(number))) => {
                *number = number.saturating_mul(10).saturating_add(digit.into());
            }
            (_, Some(digit), _) => parts.push(Part::Number(digit.into())),
            ('_', ..) => parts.push(Part::Underscore),
            _ => parts.push(Part::Other(next)),
        }
    }
    parts
}

/// Inserts lines before the first line with this prefix, indented or not.
pub(crate) fn insert_before(
    path: &str,
    text: &str,
    begins: &str,
    lines: &str,
) -> Result<String, Error> {
    let at = text.lines().position(|it| it.trim_start().starts_with(begins));
    at.map(|at| insert(text, at, lines)).ok_or_else(|| missing_anchor(path, begins))
}

/// Inserts a line after the last line with this prefix.
pub(crate) fn insert_after_last(
    path: &str,
    text: &str,
    begins: &str,
    line: &str,
) -> Result<String, Error> {
    let at = text.lines().enumerate().filter(|(_, it)| it.starts_with(begins)).last();
    at.map(|(at, _)| insert(text, at + 1, line)).ok_or_else(|| missing_anchor(path, begins))
}

/// Inserts a name into a list in braces that begins with `begins`. rustfmt sorts it.
pub(crate) fn insert_name(
    path: &str,
    text: &str,
    begins: &str,
    name: &str,
) -> Result<String, Error> {
    let at = text.find(begins).ok_or_else(|| missing_anchor(path, begins))? + begins.len();
    Ok(format!("{}{name}, {}", &text[..at], &text[at..]))
}

fn insert(text: &str, at: usize, lines: &str) -> String {
    let mut all: Vec<_> = text.lines().collect();
    all.insert(at, lines.strip_suffix('\n').unwrap_or(lines));
    all.join("\n") + "\n"
}

pub(crate) fn missing_anchor(path: &str, begins: &str) -> Error {
    Error::NoPlace { path: path.to_owned(), line: format!("`{begins}..`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_inserted_where_it_sorts() {
        let text = "//! x\n\nmod b;\nmod d;\n\nuse f;\n";
        for (line, expected) in [
            ("mod a;", "//! x\n\nmod a;\nmod b;\nmod d;\n\nuse f;\n"),
            ("mod c;", "//! x\n\nmod b;\nmod c;\nmod d;\n\nuse f;\n"),
            ("mod e;", "//! x\n\nmod b;\nmod d;\nmod e;\n\nuse f;\n"),
        ] {
            assert_eq!(insert_sorted("x.rs", text, "mod ", line).unwrap(), expected);
        }
        let numbered = "mod top;\nmod top_1;\nmod top1;\nmod top10;\nmod tops;\n";
        let inserted = insert_sorted("x.rs", numbered, "mod ", "mod top2;").unwrap();
        assert_eq!(inserted, numbered.replace("mod top10;", "mod top2;\nmod top10;"));
        let error = insert_sorted("x.rs", text, "pub mod ", "pub mod a;").unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.rs has no line `pub mod ..`, before or after which to write"
        );
    }
}
