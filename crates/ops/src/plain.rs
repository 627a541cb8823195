//! Escapes text from messages for a terminal.

use std::fmt::Write;

/// Escapes control characters and characters that reorder text, because a message must not control
/// the terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            c if c.is_control() && c.is_ascii() => _ = write!(plain, "\\x{:02x}", u32::from(c)),
            c if c.is_control() || is_reordering(c) => {
                _ = write!(plain, "\\u{{{:x}}}", u32::from(c));
            }
            c => plain.push(c),
        }
    }
    plain
}

/// Returns `true` for Unicode's bidirectional controls, which can make a text look like another.
pub(crate) fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns bytes as [`plain`] text if they are UTF-8, and escaped if they are not.
pub(crate) fn plain_bytes(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), plain)
}

/// Returns the number with the singular if it is 1, and with the plural otherwise.
pub(crate) fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_escaped_and_the_rest_stays() {
        assert_eq!(plain("{\"a\": \"Ünal\"}"), "{\"a\": \"Ünal\"}");
        assert_eq!(plain("\u{1b}[2J\r\n\0ü\u{9b}1m"), "\\x1b[2J\\r\\n\\x00ü\\u{9b}1m");
        assert_eq!(plain("gnp.\u{202e}exe"), "gnp.\\u{202e}exe");
        assert_eq!(plain_bytes(&[b'a', 0xff]), "a\\xff");
    }
}
