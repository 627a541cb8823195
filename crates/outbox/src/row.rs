use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use sqlx::types::Json;
use telemetry::{KeyValue, TraceContext};

/// An event that waits to be published.
#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) headers: Json<BTreeMap<String, String>>,
    pub(crate) payload: Vec<u8>,
    /// Seconds since it was written, by the database's clock.
    pub(crate) waited: f64,
}

impl Row {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The span in which its event was created.
    pub(crate) fn created_in(&self) -> Option<TraceContext> {
        self.header("ce_traceparent").map(|parent| TraceContext::new(parent, None))
    }

    /// Shows in the trace how long it lay in the outbox until it was selected.
    pub(crate) fn record_wait(&self, selected: SystemTime) {
        let waited = Duration::try_from_secs_f64(self.waited).unwrap_or_default();
        let (Some(context), Some(written)) = (self.created_in(), selected.checked_sub(waited))
        else {
            return;
        };
        let known = [("event_id", "ce_id"), ("correlation_id", "ce_correlationid")].into_iter();
        let known =
            known.filter_map(|(name, header)| Some((name, self.header(header)?.to_owned())));
        let attributes = known.map(|(name, value)| KeyValue::new(name, value)).collect();
        context.record_wait("outbox wait", written, selected, attributes);
    }
}
