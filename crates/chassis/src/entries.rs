/// Returns the entries of a list, which are separated by commas and line breaks. A `#` at the
/// beginning of a line or an entry, or after a space, starts a comment, which lasts to the end of
/// the line.
pub(crate) fn entries(list: &str) -> impl Iterator<Item = &str> {
    let lines = list.lines().map(without_comment);
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

fn without_comment(line: &str) -> &str {
    let is_comment = |(at, _): &(usize, &str)| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|before| before == ',' || before.is_whitespace())
    };
    line.match_indices('#').find(is_comment).map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::entries;

    #[test]
    fn a_comment_ends_with_its_line_and_not_at_a_comma() {
        for (list, expected) in [
            ("a=1, b=2\n c=3 ,\r\n\n", &["a=1", "b=2", "c=3"][..]),
            ("# a=1, b=2\nc=3", &["c=3"]),
            ("  # Acme, our first tenant\nc=3", &["c=3"]),
            ("a=1 # laptop, b=2\nc=3", &["a=1", "c=3"]),
            ("a=1,#b=2, d=4\nc=3", &["a=1", "c=3"]),
            ("a=#1,b=2#", &["a=#1", "b=2#"]),
            ("#", &[]),
        ] {
            assert_eq!(entries(list).collect::<Vec<_>>(), expected, "{list:?}");
        }
    }
}
