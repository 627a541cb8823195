use std::fmt::Write;

/// The encoding of the searched data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressIn {
    /// Text.
    Text,
    /// Bytes, as `encode(.., 'escape')` represents them.
    Bytes,
}

/// Matches the place where an address begins. A sign such as an apostrophe quotes an address,
/// unless it follows a letter or digit: then it is a part of a longer one. A letter or digit may
/// also be the end of an escaped character.
const BEFORE: &str = r"(?:(?<![a-z0-9._%+-]|[a-z0-9][!$'*^`~])|(?<=\\[bfnrt][!$'*^`~]?)|(?<=\\u[0-9a-f]{4}[!$'*^`~]?)|(?<=\\[0-7]{3}[!$'*^`~]?))";

/// Returns a regular expression of Postgres (for `~*`) that finds a whole e-mail address, but not a
/// longer one that contains it, also where JSON quotes it. The signs `#&/=?{|}` are taken for
/// separators, as in `email=ada@example.com`, though addresses may contain them.
pub fn address_pattern(address: &str, within: AddressIn) -> String {
    let mut pattern = String::from(BEFORE);
    for character in address.chars() {
        match character {
            _ if character.is_ascii_alphanumeric() => pattern.push(character),
            _ if within == AddressIn::Bytes && !character.is_ascii() => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string does not fail.
                    let _ = write!(pattern, "\\\\{byte:03o}");
                }
            }
            // In JSON they follow a backslash, and each further encoding doubles backslashes.
            '"' => pattern.push_str(r#"\\*""#),
            '\\' => pattern.push_str(r"\\+"),
            _ if character.is_ascii() => {
                pattern.push('\\');
                pattern.push(character);
            }
            _ => pattern.push(character),
        }
    }
    pattern.push_str("(?![a-z0-9]|[.-][a-z0-9])");
    pattern
}

/// Returns whether a text contains a whole e-mail address, as [`address_pattern`] finds it. One
/// that JSON has to escape is also found within a longer one.
pub fn contains_address(text: &str, address: &str) -> bool {
    let (text, address) = (text.to_lowercase(), address.to_lowercase());
    if address.contains(['"', '\\']) {
        let plain = |text: &str| text.replace('\\', "");
        return plain(&text).contains(&plain(&address));
    }
    let is_alphanumeric = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    text.match_indices(&address).any(|(at, _)| {
        let before = &text[..at];
        // Quoting signs may be a part of a longer address, after a letter or digit.
        let word = before.strip_suffix(|it| "!$'*^`~".contains(it));
        let is_escape = ends_in_escape(word.unwrap_or(before));
        let mut after = text[at + address.len()..].chars();
        let is_longer_before = match word {
            Some(word) => word.ends_with(is_alphanumeric),
            None => before.ends_with(|it| is_alphanumeric(it) || "._%+-".contains(it)),
        };
        let is_longer_after = match after.next() {
            Some('.' | '-') => after.next().is_some_and(is_alphanumeric),
            next => next.is_some_and(is_alphanumeric),
        };
        (is_escape || !is_longer_before) && !is_longer_after
    })
}

/// Returns whether a text may end in a character that JSON has escaped, such as `\n` or `\u001f`.
fn ends_in_escape(text: &str) -> bool {
    let Some((_, escape)) = text.rsplit_once('\\') else { return false };
    let is_unicode =
        |digits: &str| digits.len() == 4 && digits.chars().all(|it| it.is_ascii_hexdigit());
    ["b", "f", "n", "r", "t"].contains(&escape) || escape.strip_prefix('u').is_some_and(is_unicode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_contained_as_a_whole_only() {
        for text in [
            "da@x.example",
            "<DA@X.example>",
            "a da@x.example.",
            "da@x.example-",
            r"\nda@x.example",
            r"\u001fda@x.example",
            "'da@x.example'",
            r"\n'da@x.example'",
            "email=da@x.example",
        ] {
            assert!(contains_address(text, "da@x.example"), "{text}");
        }
        for text in [
            "ada@x.example",
            "a.da@x.example",
            "o'da@x.example",
            "da@x.example.org",
            "da@x.examples",
            "",
        ] {
            assert!(!contains_address(text, "da@x.example"), "{text}");
        }
    }

    #[test]
    fn an_address_is_found_as_it_is_written() {
        assert_eq!(
            address_pattern("a.b@x", AddressIn::Text),
            format!(r"{BEFORE}a\.b\@x(?![a-z0-9]|[.-][a-z0-9])")
        );
        assert!(address_pattern("ä@x", AddressIn::Bytes).contains(r"\\303\\244\@x"));
        let quoted = address_pattern(r#""a\b"@x"#, AddressIn::Bytes);
        assert!(quoted.contains(r#"\\*"a\\+b\\*"\@x"#), "{quoted}");
    }
}
