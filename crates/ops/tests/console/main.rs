//! The console in a real browser: Chromium, driven by chromedriver.

#![allow(clippy::unwrap_used)]

mod access;
/// The service of the commands' tests, with letters and replays.
#[allow(dead_code, unused_imports)] // The tests of the commands use the rest.
#[path = "../it/fake/mod.rs"]
mod admin;
mod contracts;
mod failures;
/// The services of the command's tests, with flows.
#[allow(dead_code)] // The tests of the commands use the rest.
#[path = "../flow/fake.rs"]
mod fake;
mod flow;
mod house;
mod jobs;
mod live;
mod looks;
#[allow(dead_code)] // The tests of the commands use the rest.
#[path = "../parts/output.rs"]
mod output;
mod service;
#[allow(dead_code)] // The tests of the commands use the rest.
#[path = "../flow/story.rs"]
mod story;
mod subscriptions;
