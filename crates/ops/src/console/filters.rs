//! How templates write times, numbers and text of messages.

use std::fmt::Display;

use askama::{Result, Values};
use time::OffsetDateTime;

use crate::lag::words::grouped;
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

/// Writes a number with commas between thousands, as the command line does.
#[askama::filter_fn]
pub(crate) fn number(number: impl Display, _: &dyn Values) -> Result<String> {
    let text = number.to_string();
    Ok(text.parse().map_or(text, grouped))
}
