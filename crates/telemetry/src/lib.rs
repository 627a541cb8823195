#![doc = include_str!("../README.md")]

mod context;
mod error_chain;
mod export;
mod flow;
mod init;
mod log;
mod metrics;
mod query;
mod span_ids;

pub use context::{TraceContext, link};
pub use error_chain::error_chain;
pub use flow::{FlowStep, FlowSteps, OutgoingEvent, Publication, note_failed_attempt};
pub use init::{InitError, Tracing, exports_spans, init};
pub use log::LogFormat;
pub use metrics::Metrics;
pub use query::query_span;

/// The metrics API of all instruments, re-exported so that there is one version of it.
pub use opentelemetry::{KeyValue, metrics as instruments};

/// Instrumentation scope of all spans.
const TRACER: &str = "orderflow";
