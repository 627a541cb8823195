#![doc = include_str!("../README.md")]

mod catalogue;
mod consumer;
mod edit;
mod error;
mod event;
mod format;
mod name;
mod refusals;
mod request;
mod tree;

pub use consumer::{Consumer, Kind, add};
pub use error::Error;
pub use event::{NewEvent, add_event};
pub use request::{Request, read};
pub use tree::Tree;
