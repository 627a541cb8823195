//! Readiness, metrics and failed jobs: what `serve` polls.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Client, HTTP, READ};
use crate::error::Error;

/// How many failed jobs of a service are counted: its largest page.
const MOST_JOBS: usize = 500;

#[derive(Deserialize)]
struct FailedJobs {
    jobs: Vec<FailedJob>,
}

#[derive(Deserialize)]
struct FailedJob {
    kind: String,
}

impl Client {
    /// Returns the report of a service that is ready. Fails if it is not.
    pub(crate) async fn readiness(&self) -> Result<Value, Error> {
        self.get(&["readyz"], &[]).await
    }

    /// Returns the service's metrics in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> Result<String, Error> {
        let request = HTTP.get(self.resource(&["metrics"])).timeout(READ);
        let (status, text) = self.answer(&Method::GET, &["metrics"], request).await?;
        if status == 200 { Ok(text) } else { Err(self.unexpected("GET /metrics", status, &text)) }
    }

    /// Counts the jobs that have failed for good, by kind.
    pub(crate) async fn failed_jobs(&self) -> Result<BTreeMap<String, u64>, Error> {
        let query = [("state", "failed".to_owned()), ("limit", MOST_JOBS.to_string())];
        let failed: FailedJobs = self.get(&["jobs"], &query).await?;
        let mut kinds = BTreeMap::new();
        for job in failed.jobs {
            *kinds.entry(job.kind).or_default() += 1;
        }
        Ok(kinds)
    }
}
