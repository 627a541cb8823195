#![doc = include_str!("../README.md")]

mod called;
mod exchange;
mod open_api;
mod operation;
mod schemas;

pub use called::{folder, marker};
pub use open_api::OpenApi;
