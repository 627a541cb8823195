//! Quoting for a shell.

use std::fmt::Write;

/// Quotes bytes as a shell word. The result is POSIX, unless there are control characters: then it
/// is `$'..'`, which bash, zsh and ksh support. Returns `None` for a NUL, which no argument can
/// contain.
pub(crate) fn word(bytes: &[u8]) -> Option<String> {
    if bytes.contains(&0) {
        return None;
    }
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(byte);
    match printable(bytes) {
        Some(text) if !text.is_empty() && bytes.iter().all(is_safe) => Some(text.to_owned()),
        Some(text) => Some(format!("'{}'", text.replace('\'', r"'\''"))),
        None => Some(format!("$'{}'", escaped(bytes, false))),
    }
}

/// Returns a POSIX command that prints these bytes, NUL included.
pub(crate) fn print(bytes: &[u8]) -> String {
    match printable(bytes) {
        Some(text) => format!("printf %s '{}'", text.replace('\'', r"'\''")),
        None => format!("printf '{}'", escaped(bytes, true)),
    }
}

/// Returns the text if a terminal shows all its characters unchanged.
fn printable(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| crate::plain::plain(text) == *text)
}

/// Escapes all bytes except printable ASCII in octal, always with three digits, because the length
/// of `\x` differs between shells.
fn escaped(bytes: &[u8], is_format: bool) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'%' if is_format => escaped.push_str("%%"),
            // A format that starts with a dash would be taken for an option.
            b'-' if is_format && at == 0 => escaped.push_str("\\055"),
            b'\'' | b'\\' => _ = write!(escaped, "\\{byte:03o}"),
            b' '..=b'~' => escaped.push(byte.into()),
            byte => _ = write!(escaped, "\\{byte:03o}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ODD: [&[u8]; 9] = [
        b"",
        b"plain-1.2_/:=@",
        b"it's \"$HOME\" `id` $(id) \\ ! * ~ #",
        b"-n %s %% \\n",
        "Ünal → ✓".as_bytes(),
        b"\x1b[2J\r\n\ttab'quote\\octal%7",
        &[0xff, 0xfe, b'1', b'2', 0x80],
        b"-\n",
        b"\n\n",
    ];

    fn output(shell: &str, script: &str) -> Vec<u8> {
        let output = Command::new(shell).args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}");
        output.stdout
    }

    #[test]
    fn a_shell_passes_on_the_bytes_of_a_word() {
        for bytes in ODD {
            let script = format!("printf '%s|' {}", word(bytes).unwrap());
            assert_eq!(output("bash", &script), [bytes, b"|"].concat(), "{script}");
        }
        assert_eq!(word(b"a\0b"), None);
    }

    #[test]
    fn a_shell_prints_the_bytes() {
        for bytes in ODD.into_iter().chain([&b"NUL \0 and 1\x00011"[..]]) {
            for shell in ["sh", "bash"] {
                assert_eq!(output(shell, &print(bytes)), bytes, "{shell}: {}", print(bytes));
            }
        }
    }

    #[test]
    fn a_command_shows_nothing_that_controls_the_terminal() {
        for bytes in ODD {
            let shown = word(bytes).unwrap() + &print(bytes);
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
    }
}
