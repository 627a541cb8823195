//! The console in a real browser: Debian's Chromium, driven by its own driver.

#![allow(clippy::unwrap_used)]

mod access;
mod axe;
mod browser;
mod failures;
#[allow(dead_code, unused_imports)] // the commands' tests use the rest
#[path = "../it/fake/mod.rs"]
mod fake;
mod flow;
mod house;
mod jobs;
mod live;
mod looks;
mod service;
mod subscriptions;
