//! Indents JSON without changing its numbers.

/// Maximum depth of indentation. Deeper parts stay on one line.
const DEEPEST: usize = 40;

/// Indents JSON without parsing its numbers, so that `1.10` and 20-digit ids are not changed. Other
/// text is returned unchanged.
pub(crate) fn pretty(text: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let (mut pretty, mut depth) = (String::with_capacity(text.len() * 2), 0_usize);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                pretty.push('"');
                while let Some(inner) = characters.next() {
                    pretty.push(inner);
                    match inner {
                        '\\' => pretty.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                pretty.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|it| matches!(it, '}' | ']')) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    break_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut pretty, depth);
                pretty.push(character);
            }
            ',' => {
                pretty.push(',');
                break_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            it if it.is_ascii_whitespace() => {}
            it => pretty.push(it),
        }
    }
    pretty
}

fn break_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(DEEPEST)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_stay_what_they_are() {
        let text = r#"{"total":1.10,"id":123456789012345678901,"e":1E+2,"of":[ ],"a":{ "b" : [true,null] },"q":"{\"x\": [1,2]}, :"}"#;
        let shown = "{\n  \"total\": 1.10,\n  \"id\": 123456789012345678901,\n  \"e\": 1E+2,\n  \"of\": [],\n  \"a\": {\n    \
                     \"b\": [\n      true,\n      null\n    ]\n  },\n  \"q\": \"{\\\"x\\\": [1,2]}, :\"\n}";
        assert_eq!(pretty(text), shown);
    }

    #[test]
    fn what_is_no_json_stays_as_it_is() {
        for text in ["", "{\"a\": ", "<script>", "{} {}"] {
            assert_eq!(pretty(text), text);
        }
    }

    #[test]
    fn a_payload_that_is_nested_deeply_is_not_larger_than_it_has_to_be() {
        let text = "[".repeat(100) + &"]".repeat(100);
        assert!(pretty(&text).len() < 20_000);
    }
}
