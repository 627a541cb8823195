//! The alert rules and the dashboard against what the programs really export.

#![allow(clippy::unwrap_used)]

mod exposition;
mod files;
mod promql;
mod promtool;
mod rules;
