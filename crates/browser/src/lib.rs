//! Chromium for the tests of the console: clicks, waits for what appears, and fails if anything went wrong in the page.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod axe;
mod browser;

pub use browser::{Browser, PATIENCE};
pub use fantoccini::Locator;
pub use fantoccini::key::Key;
