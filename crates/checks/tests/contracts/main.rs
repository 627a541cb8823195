//! Compares the contracts in `schemas/` with those that are generated from each service's
//! `app::build`. `UPDATE_SCHEMAS=1` regenerates them.

#![allow(clippy::unwrap_used)]

mod asyncapi;
mod called;
mod committed;
mod http;
mod records;
mod services;
mod validator;
