//! Compares the alert rules and the dashboard with the metrics that the programs export.

#![allow(clippy::unwrap_used)]

mod exposition;
mod files;
mod promql;
mod promtool;
mod rules;
mod targets;
