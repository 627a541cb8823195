//! Tests of deferred tasks behind a real server, on real sockets.

#![allow(clippy::unwrap_used)]

mod clients;
mod house;
mod limits;
mod observing;
mod semantics;
