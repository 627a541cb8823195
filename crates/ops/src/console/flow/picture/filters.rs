//! How the template writes lengths.

use askama::{Result, Values};

/// Writes a length in pixels, to a tenth.
#[askama::filter_fn]
#[allow(clippy::trivially_copy_pass_by_ref)] // as templates pass it
pub(crate) fn px(length: &f64, _: &dyn Values) -> Result<String> {
    let text = format!("{length:.1}");
    Ok(text.strip_suffix(".0").map_or_else(|| text.clone(), ToOwned::to_owned))
}
