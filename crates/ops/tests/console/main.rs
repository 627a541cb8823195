//! The console in a real browser: Debian's Chromium, driven by its own driver.

#![allow(clippy::unwrap_used)]

mod access;
mod axe;
mod browser;
#[allow(dead_code)] // the tests of the command need more of it
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
