use std::fmt::Write;

/// The encoding of the searched data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressIn {
    /// Text.
    Text,
    /// Bytes, as `encode(.., 'escape')` represents them.
    Bytes,
}

/// Returns a regular expression of Postgres (for `~*`) that finds a whole e-mail address, but not a
/// longer one that contains it, also where JSON quotes it.
pub fn address_pattern(address: &str, within: AddressIn) -> String {
    let mut pattern = String::from("(?<![a-z0-9._%+-])");
    for character in address.chars() {
        match character {
            _ if character.is_ascii_alphanumeric() => pattern.push(character),
            _ if within == AddressIn::Bytes && !character.is_ascii() => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string does not fail.
                    let _ = write!(pattern, "\\\\{byte:03o}");
                }
            }
            // In JSON they follow a backslash, and as escaped bytes each backslash is doubled.
            '"' => pattern.push_str(r#"\\{0,2}""#),
            '\\' => pattern.push_str(r"\\{1,4}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_as_it_is_written() {
        assert_eq!(
            address_pattern("a.b@x", AddressIn::Text),
            r"(?<![a-z0-9._%+-])a\.b\@x(?![a-z0-9]|[.-][a-z0-9])"
        );
        assert!(address_pattern("ä@x", AddressIn::Bytes).contains(r"\\303\\244\@x"));
        let quoted = address_pattern(r#""a\b"@x"#, AddressIn::Bytes);
        assert!(quoted.contains(r#"\\{0,2}"a\\{1,4}b\\{0,2}"\@x"#), "{quoted}");
    }
}
