//! Groups failures by exception, SQLSTATE and message, ignoring ids and numbers.

use std::error::Error;

use sha2::{Digest, Sha256};

/// Returns a fingerprint of 16 hexadecimal digits.
///
/// `exception` is the type of the error. In the messages of `error` and its sources, words with a
/// digit and quoted texts are ignored, since they differ between messages that fail for the same
/// reason.
pub(crate) fn fingerprint(exception: &str, error: &(dyn Error + 'static)) -> String {
    let mut digest = Sha256::new();
    digest.update(exception);
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        digest.update([0]);
        digest.update(sqlstate(cause).unwrap_or_default());
        digest.update([0]);
        digest.update(without_values(&cause.to_string()));
    }
    shortened(digest)
}

/// Returns the first eight bytes of a digest, in hexadecimal digits: enough for the failures of one
/// system.
pub(crate) fn shortened(digest: Sha256) -> String {
    let first = digest.finalize().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
    format!("{first:016x}")
}

/// Returns the fingerprint of an error of which only the message is known.
pub(crate) fn fingerprint_of_text(exception: &str, message: &str) -> String {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct TextError(String);
    fingerprint(exception, &TextError(message.to_owned()))
}

fn sqlstate(error: &(dyn Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<sqlx::Error>()?;
    error.as_database_error()?.code().map(Into::into)
}

/// Replaces quoted texts and words that contain a digit.
fn without_values(message: &str) -> String {
    let mut kept = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let end = if let Some(end) = quoted(rest, first) {
            kept.push_str("\"\"");
            end
        } else if is_in_word(first) {
            let continues_word = |it| is_in_word(it) || it == '\'';
            let end = rest.find(|it| !continues_word(it)).unwrap_or(rest.len());
            let word = &rest[..end];
            let has_digit = word.contains(|it: char| it.is_ascii_digit());
            kept.push_str(if has_digit { "#" } else { word });
            end
        } else {
            kept.push(first);
            first.len_utf8()
        };
        rest = &rest[end..];
    }
    kept
}

/// Returns the end of the quotation that the text begins with. An apostrophe inside a word does not
/// begin a quotation.
fn quoted(text: &str, first: char) -> Option<usize> {
    if !matches!(first, '"' | '\'' | '`') {
        return None;
    }
    text[1..].find(first).map(|end| end + 2)
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct TestError(&'static str);

    fn of(message: &'static str) -> String {
        fingerprint("TestError", &TestError(message))
    }

    #[test]
    fn ids_numbers_and_quoted_values_do_not_count() {
        let kind = of("order 7 of \"acme\" was refused at 2026-11-25T10:00:00Z: it's too large");
        for same in [
            "order 12 of \"globex\" was refused at 2027-01-01T00:00:00Z: it's too large",
            "order 0192f0c1-7b1a-7000-8000-000000000000 of \"\" was refused at 1T1:1:1Z: it's too large",
        ] {
            assert_eq!(kind, of(same), "{same}");
        }
        assert_ne!(
            kind,
            of("order 7 of \"acme\" was refused at 2026-11-25T10:00:00Z: it's too small")
        );
        assert_ne!(
            kind,
            fingerprint(
                "Other",
                &TestError("order 7 of \"acme\" was refused at 1T1:1:1Z: it's too large")
            )
        );
        assert_eq!(kind.len(), 16);
    }

    #[test]
    fn values_are_replaced_and_words_are_kept() {
        let cases = [
            ("key (id)=(42) exists", "key (id)=(#) exists"),
            ("can't read 'x y' of `z`", "can't read \"\" of \"\""),
            ("an open \" stays", "an open \" stays"),
            ("größe 3µ", "größe #"),
        ];
        for (message, kept) in cases {
            assert_eq!(without_values(message), kept);
        }
    }
}
