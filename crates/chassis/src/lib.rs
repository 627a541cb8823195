#![doc = include_str!("../README.md")]

mod admin;
mod config;
mod description;
mod entries;
mod events;
mod flow;
mod http;
mod live_file;
mod service;

pub use self::config::{Config, ConfigError, Secret};
pub use self::description::{ServiceDescription, Subscribed};
pub use self::events::binary_headers;
pub use self::http::{
    Answer, BadCursor, Caller, CompletedRequest, Cursor, CursorKey, ETag, Empty, IdempotencyKey,
    IdempotencyRow, IfMatch, Json, JsonObject, Limit, Page, PageQuery, Path, Peer, Problem, Query,
    Submission, at_most,
};
pub use self::service::{Parts, RunningService, Service, StartError, main};
