//! The console in a real browser, with the real services behind it.

#![allow(clippy::unwrap_used)]

mod house;
mod mended;
mod pictures;
mod shop;
