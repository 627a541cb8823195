//! How templates write times, numbers and text of messages.

use std::fmt::Display;

use askama::{Result, Values};
use time::OffsetDateTime;

use crate::moment;
use crate::plain::plain as escaped;

/// Escapes control characters and those that reorder text. The template escapes HTML besides.
#[askama::filter_fn]
pub(crate) fn plain(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(escaped(&text.to_string()))
}

/// Escapes as [`plain`] does, but for line ends.
#[askama::filter_fn]
pub(crate) fn lines(text: impl Display, _: &dyn Values) -> Result<String> {
    let lines: Vec<_> = text.to_string().split('\n').map(escaped).collect();
    Ok(lines.join("\n"))
}

/// Writes a time as people read it.
#[askama::filter_fn]
pub(crate) fn when(at: impl Display, _: &dyn Values) -> Result<String> {
    Ok(moment::when(&at.to_string()))
}

/// Writes how long ago a time was.
#[askama::filter_fn]
pub(crate) fn ago(at: impl Display, _: &dyn Values) -> Result<String> {
    Ok(moment::ago(&at.to_string(), OffsetDateTime::now_utc()))
}

/// Writes a number with thin spaces between thousands.
#[askama::filter_fn]
pub(crate) fn number(number: impl Display, _: &dyn Values) -> Result<String> {
    Ok(grouped(&number.to_string()))
}

/// Returns digits with a thin space (U+202F, which does not break) between thousands.
pub(crate) fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        let shown = ["0", "999", "1000", "12345678"].map(grouped);
        assert_eq!(shown, ["0", "999", "1\u{202f}000", "12\u{202f}345\u{202f}678"]);
    }
}
