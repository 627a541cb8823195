use std::fmt::Write;

/// Where to search for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressIn {
    /// In a text.
    Text,
    /// In bytes as `encode(.., 'escape')` writes them.
    Bytes,
}

/// Returns a regular expression of Postgres (for `~*`) that finds an e-mail address as a whole, not as a part of a longer one.
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
    }
}
