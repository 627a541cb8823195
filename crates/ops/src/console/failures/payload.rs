//! Shows a record's bytes as text. JSON is indented without parsing its numbers, so that none is
//! rounded.

use std::fmt::Write;

use serde::de::IgnoredAny;

use crate::client::Bytes;
use crate::console::payload::pretty;
use crate::plain::{is_reordering, plain, plain_bytes};

/// Maximum size of a shown value in bytes. Indentation can make a small document large.
const MOST: usize = 512 * 1024;
const MOST_INDENTED: usize = 2 * 1024 * 1024;

/// A value of a record, ready to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Control characters are escaped, so all line ends belong to the indentation.
    pub(crate) text: String,
    pub(crate) form: Form,
    pub(crate) bytes: usize,
    pub(crate) is_cut: bool,
}

/// Format of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    None,
    Json,
    Text,
    Binary,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

impl Payload {
    pub(crate) fn new(value: Option<&Bytes>) -> Self {
        let Some(value) = value.map(Bytes::as_slice) else { return Self::default() };
        let bytes = value.len();
        let Ok(text) = std::str::from_utf8(value) else {
            let shown = plain_bytes(&value[..bytes.min(MOST / 4)]);
            return Self { text: shown, form: Form::Binary, bytes, is_cut: bytes > MOST / 4 };
        };
        if let Some(text) = indented(text) {
            // A JSON string contains no line end.
            let lines: Vec<_> = text.split('\n').map(plain).collect();
            let text = lines.join("\n");
            return Self { text, form: Form::Json, bytes, is_cut: false };
        }
        let shown = &text[..text.floor_char_boundary(MOST)];
        let form = if is_json(text) { Form::Json } else { Form::Text };
        Self { text: plain(shown), form, bytes, is_cut: shown.len() < text.len() }
    }

    pub(crate) fn is_some(&self) -> bool {
        self.form != Form::None
    }
}

/// Returns the text of a JSON document for editing: indented, with escapes for characters that are
/// invisible or reorder the text, and otherwise unchanged.
pub(crate) fn editable(text: &str) -> String {
    let Some(text) = indented(text) else { return text.to_owned() };
    let mut editable = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n') || is_reordering(c) {
            // These characters are in strings, and all in the basic multilingual plane.
            _ = write!(editable, "\\u{:04x}", u32::from(c));
        } else {
            editable.push(c);
        }
    }
    editable
}

/// Returns a valid JSON document without the space between its tokens, because a browser sends
/// other line ends.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let end = token(rest, first);
        out.push_str(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    out
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Returns a JSON document with one line per member. Returns `None` if it is invalid, or would
/// become too large.
fn indented(text: &str) -> Option<String> {
    if text.len() > MOST || !is_json(text) {
        return None;
    }
    Some(pretty(text)).filter(|text| text.len() <= MOST_INDENTED)
}

/// Returns the end of the token at the beginning of a valid document's rest.
fn token(rest: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut is_escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        '{' | '}' | '[' | ']' | ',' | ':' => 1,
        _ => rest
            .find(|c: char| matches!(c, ',' | ']' | '}' | ':') || c.is_ascii_whitespace())
            .unwrap_or(rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &[u8]) -> Payload {
        Payload::new(Some(&Bytes::from(value.to_vec())))
    }

    #[test]
    fn json_is_indented_and_its_numbers_stay_as_they_are() {
        let payload = shown(
            br#" {"n":9007199254740993.10,"e" :1E400,"a":[ ],"o":{"s":"a\"}{,:"},"l":[1,-0.0]}"#,
        );
        let text = "{\n  \"n\": 9007199254740993.10,\n  \"e\": 1E400,\n  \"a\": [],\n  \"o\": {\n    \
                    \"s\": \"a\\\"}{,:\"\n  },\n  \"l\": [\n    1,\n    -0.0\n  ]\n}";
        assert_eq!((payload.text.as_str(), payload.form), (text, Form::Json));
    }

    #[test]
    fn control_characters_are_visible_in_every_form() {
        assert_eq!(
            shown("{\"a\":\"\u{9b}\u{202e}\"}".as_bytes()).text,
            "{\n  \"a\": \"\\u{9b}\\u{202e}\"\n}"
        );
        let text = shown(b"no\x1b[2Jjson\n");
        assert_eq!((text.text.as_str(), text.form), ("no\\x1b[2Jjson\\n", Form::Text));
        let binary = shown(&[0xff, b'a', 0]);
        assert_eq!(
            (binary.text.as_str(), binary.form, binary.bytes),
            ("\\xffa\\x00", Form::Binary, 3)
        );
        assert_eq!(Payload::new(None).form, Form::None);
    }

    #[test]
    fn a_document_that_would_become_huge_is_shown_as_it_is() {
        let deep = format!("{}{}1{}", "[".repeat(120), "1,".repeat(100_000), "]".repeat(120));
        let payload = shown(deep.as_bytes());
        assert_eq!((payload.form, payload.is_cut), (Form::Json, false));
        assert!(payload.text.len() <= MOST_INDENTED && !payload.text.contains('\n'));
        let endless = shown("[".repeat(1_000_000).as_bytes());
        assert_eq!((endless.form, endless.is_cut, endless.text.len()), (Form::Text, true, MOST));
    }

    #[test]
    fn what_is_edited_keeps_its_characters_in_sight() {
        let text = "{\n  \"a\": \"\\u202e\\u009bü\"\n}";
        assert_eq!(editable("{\"a\":\"\u{202e}\u{9b}ü\"}"), text);
        assert_eq!(editable("{"), "{");
        assert_eq!(compact("{\r\n  \"a b\" : [ 1.10 ,\t2 ]\r\n}"), "{\"a b\":[1.10,2]}");
    }
}
