//! Filters with which templates write times, numbers and text of messages.

use std::fmt::Display;

use askama::{Result, Values};
use time::OffsetDateTime;

use crate::lag::words::grouped;
use crate::moment;
use crate::plain::plain as escaped;

/// Escapes control characters and characters that reorder text. The template also escapes HTML.
#[askama::filter_fn]
pub(crate) fn plain(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(escaped(&text.to_string()))
}

/// Escapes like [`plain`], but keeps line ends.
#[askama::filter_fn]
pub(crate) fn lines(text: impl Display, _: &dyn Values) -> Result<String> {
    let lines: Vec<_> = text.to_string().split('\n').map(escaped).collect();
    Ok(lines.join("\n"))
}

/// Formats a time for people.
#[askama::filter_fn]
pub(crate) fn when(at: impl Display, _: &dyn Values) -> Result<String> {
    Ok(moment::when(&at.to_string()))
}

/// Formats the time since a time.
#[askama::filter_fn]
pub(crate) fn ago(at: impl Display, _: &dyn Values) -> Result<String> {
    Ok(moment::ago(&at.to_string(), OffsetDateTime::now_utc()))
}

/// Formats a number with commas between thousands, as on the command line.
#[askama::filter_fn]
pub(crate) fn number(number: impl Display, _: &dyn Values) -> Result<String> {
    let text = number.to_string();
    Ok(text.parse().map_or(text, grouped))
}
