//! Wraps text.

/// Maximum number of lines of one text; `--json` contains the whole text.
const LINES: usize = 6;

/// Breaks text into lines of at most `width` characters, between words if possible. Returns at
/// least one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split(' ') {
        let letters = word.chars().count();
        if used > 0 && used + 1 + letters <= width {
            line.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for c in word.chars() {
            if used == width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += 1;
        }
    }
    lines.push(line);
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(width - 3).chain(" ..".chars()).collect();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_a_long_word_in_itself() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghijk l", 8), ["abcdefgh", "ijk l"]);
        assert_eq!(wrap("", 8), [""]);
        let long = wrap(&"x".repeat(1000), 10);
        assert_eq!((long.len(), long[5].as_str()), (6, "xxxxxxx .."));
    }
}
