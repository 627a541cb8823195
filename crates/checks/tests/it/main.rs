//! Tests of whole flows.

#![allow(clippy::unwrap_used)]

mod faults;
mod flow;
mod house;
mod panic;
