//! The contracts in `schemas/`, generated from the lists that `app::build` makes of each service, and compared with the
//! committed files. `UPDATE_SCHEMAS=1` writes them anew.

#![allow(clippy::unwrap_used)]

mod asyncapi;
mod called;
mod committed;
mod http;
mod records;
mod services;
mod validator;
