#![doc = include_str!("../README.md")]

mod catalogue;
mod consumer;
mod edit;
mod error;
mod format;
mod name;
mod request;
mod tree;

pub use consumer::{Consumer, Kind, add};
pub use error::Error;
pub use request::{USAGE, read};
pub use tree::Tree;
