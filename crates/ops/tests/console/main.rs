//! The console in a real browser: Debian's Chromium, driven by its own driver.

#![allow(clippy::unwrap_used)]

mod access;
/// A service of which the commands' tests know letters and replays.
#[allow(dead_code, unused_imports)] // those tests use the rest
#[path = "../it/fake/mod.rs"]
mod admin;
mod contracts;
mod failures;
/// Services of which the tests of the command know flows.
#[allow(dead_code)] // those tests use the rest
#[path = "../flow/fake.rs"]
mod fake;
mod flow;
mod house;
mod jobs;
mod live;
mod looks;
mod service;
#[allow(dead_code)]
#[path = "../flow/story.rs"]
mod story;
mod subscriptions;
