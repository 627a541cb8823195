//! The console in a real browser: Debian's Chromium, driven by its own driver.

#![allow(clippy::unwrap_used)]

mod access;
mod axe;
mod browser;
mod house;
mod jobs;
mod live;
mod looks;
mod service;
mod subscriptions;
