use std::sync::LazyLock;

use regex::Regex;

/// Kinds of words that differ between runs, each with its pattern. The first match counts.
const KINDS: [(&str, &str); 9] = [
    ("id", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    ("trace", r"\b[0-9a-f]{32}\b"),
    ("secret", r"\bwhsec_[A-Za-z0-9+/]+=*"),
    (
        "time",
        r"\d{4}-\d{2}-\d{2}(?:T| )\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z| UTC)|[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT",
    ),
    ("day", r"\b\d{4}-\d{2}-\d{2}\b"),
    ("place", r"\b\d+@\d+\b"),
    ("rate", r"\b\d+\.\d+/s\b"),
    ("duration", r"\b\d+(?:\.\d+)? ?(?:ms|s|min|h)\b"),
    // It depends on the digits of the times.
    ("length", r"\bcontent-length: \d+\b"),
];

/// Stands for any text on the page.
const GAP: &str = "..";

static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let kinds: Vec<_> = KINDS.iter().map(|(name, shape)| format!("(?P<{name}>{shape})")).collect();
    // A pattern that does not compile fails every test of this module.
    #[allow(clippy::unwrap_used)]
    Regex::new(&format!("{}|\\w+|\\S", kinds.join("|"))).unwrap()
});

/// A part of a text: a word of a kind, another word, or a character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// `None` if the text has to be equal.
    pub(super) kind: Option<&'static str>,
    pub(super) text: &'a str,
    /// Offset of its start, in bytes.
    pub(super) at: usize,
}

/// Returns the tokens of a text, without its white space.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let read = TOKEN.captures_iter(text).filter_map(|found| {
        let whole = found.get(0)?;
        let kind = KINDS.iter().map(|(name, _)| *name).find(|name| found.name(name).is_some());
        Some(Token { kind, text: whole.as_str(), at: whole.start() })
    });
    read.collect()
}

/// Returns the parts of a text of the page between its gaps, each with the offset of its start.
pub(super) fn fragments(text: &str) -> Vec<(usize, &str)> {
    let mut fragments = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(GAP) {
        let is_space = |it: Option<char>| it.is_none_or(char::is_whitespace);
        let after = at + GAP.len();
        if at >= start
            && is_space(text[..at].chars().next_back())
            && is_space(text[after..].chars().next())
        {
            fragments.push((start, &text[start..at]));
            start = after;
        }
    }
    fragments.push((start, &text[start..]));
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|it| it.kind.unwrap_or(it.text)).collect()
    }

    #[test]
    fn what_varies_is_known_by_its_shape() {
        assert_eq!(kinds("died 2026-11-26 09:14:40 UTC"), ["died", "time"]);
        assert_eq!(kinds("date: Thu, 26 Nov 2026 09:14:24 GMT"), ["date", ":", "time"]);
        assert_eq!(kinds("\"day\":\"2026-11-26\""), ["\"", "day", "\"", ":", "\"", "day", "\""]);
        assert_eq!(kinds("POST /orders  201    22 ms"), ["POST", "/", "orders", "201", "duration"]);
        assert_eq!(kinds("2        3s     0.0/s"), ["2", "duration", "rate"]);
        assert_eq!(kinds("created 4@0"), ["created", "place"]);
        assert_eq!(kinds("whsec_ss0N6U+CSeD/umq=\""), ["secret", "\""]);
        assert_eq!(
            kinds("1 dead letter, 3 services"),
            ["1", "dead", "letter", ",", "3", "services"]
        );
    }

    #[test]
    fn a_gap_stands_by_itself() {
        let parts = |text| fragments(text).iter().map(|it| it.1.trim()).collect::<Vec<_>>();
        assert_eq!(parts("a, ..\n b .. "), ["a,", "b", ""]);
        assert_eq!(parts("on.. see ../shared and a..b"), ["on.. see ../shared and a..b"]);
    }
}
