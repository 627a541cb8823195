#![doc = include_str!("../README.md")]

mod context;
mod error_chain;
mod flow;
mod init;
mod log;
mod metrics;
mod query;
mod span_ids;

pub use context::{TraceContext, link};
pub use error_chain::error_chain;
pub use flow::{FlowStep, FlowSteps, Wait, note_failed_attempt};
pub use init::{InitError, Tracing, init};
pub use log::LogFormat;
pub use metrics::Metrics;
pub use query::query_span;

/// The metrics API that instruments are made with; one version for all.
pub use opentelemetry::{KeyValue, metrics as instruments};

/// The instrumentation scope of all spans.
const TRACER: &str = "orderflow";
