//! Filters with which the template writes lengths.

#![allow(clippy::inline_always, clippy::unused_self, clippy::unnecessary_wraps, unreachable_pub)] // Code that askama generates.

use std::fmt::Display;

use askama::{Result, Values};

/// Formats a length in pixels, to a tenth.
#[askama::filter_fn]
pub(crate) fn px(length: impl Display, _: &dyn Values) -> Result<String> {
    let text = format!("{length:.1}");
    Ok(text.strip_suffix(".0").map_or_else(|| text.clone(), ToOwned::to_owned))
}
