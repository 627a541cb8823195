//! Chromium for the tests of the console: clicks, waits for texts, and fails on any problem in the
//! page.

#![allow(clippy::unwrap_used)] // A test that can't continue fails.

mod axe;
mod browser;

pub use browser::{Browser, PATIENCE};
pub use fantoccini::Locator;
pub use fantoccini::key::Key;
