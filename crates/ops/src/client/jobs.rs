//! Durable jobs.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::listing::name_service;
use super::{Answer, Client, Listed, Listing};
use crate::error::Error;

/// Conditions of jobs; all that are given must hold. The names are those of the API's query.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct JobFilter {
    /// The kind of the jobs, such as deliver-webhook
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// The state of the jobs
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<JobState>,
    /// The subject of the jobs, such as an order id
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Jobs that were enqueued or failed after this time are not selected. Set to the newest time
    /// of the jobs that an operator was shown.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// Waits for its time, its retry or a free worker
    Waiting,
    /// Is running
    Running,
    /// Has failed for good and waits for an operator
    Failed,
}

impl JobState {
    /// Returns the name that the API uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

impl JobFilter {
    /// Returns the conditions as a query.
    fn query(&self) -> Vec<(&'static str, String)> {
        let conditions = [
            ("kind", self.kind.clone()),
            ("state", self.state.map(|state| state.as_str().to_owned())),
            ("subject", self.subject.clone()),
            ("until", self.until.clone()),
        ];
        conditions.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Returns `true` if there are no conditions.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The jobs to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobSelection {
    /// These jobs.
    Ids(Vec<Uuid>),
    /// The jobs that match the filter when the service evaluates it.
    Filter(JobFilter),
}

/// A job without its payload.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) service: String,
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) attempts: u64,
    pub(crate) subject: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) unique_key: Option<String>,
    pub(crate) created_at: String,
    /// When the job is due; while it is running, when its lease ends.
    pub(crate) run_at: String,
    pub(crate) failed_at: Option<String>,
    /// The error with all its causes, one per line.
    pub(crate) last_error: Option<String>,
}

/// A job with its payload and its errors.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobDetails {
    #[serde(flatten)]
    pub(crate) job: Job,
    pub(crate) payload: Value,
    /// Errors of the attempts, oldest first.
    #[serde(default)]
    pub(crate) errors: Vec<JobError>,
}

/// A failed attempt at a job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobError {
    pub(crate) attempt: u64,
    pub(crate) at: String,
    /// The error with all its causes, one per line.
    pub(crate) error: String,
}

/// Number of jobs that a change affected.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ChangedJobs {
    pub(crate) jobs: u64,
    #[serde(default)]
    pub(crate) skipped: u64,
}

impl Listed for Job {
    const PLURAL: &'static str = "jobs";
    const NAMES_SERVICE: bool = true;

    fn at(&self) -> &str {
        &self.created_at
    }
}

#[derive(Serialize)]
struct JobsRequest<'a> {
    #[serde(flatten)]
    selection: &'a JobSelection,
    why: &'a str,
}

impl Client {
    /// Lists jobs, newest first.
    pub(crate) fn jobs(&self, filter: &JobFilter) -> Listing<Job> {
        Listing::new(self.clone(), "jobs".into(), filter.query())
    }

    /// Returns a job with its payload.
    pub(crate) async fn job(&self, id: Uuid) -> Result<Answer<JobDetails>, Error> {
        self.get_named(&["jobs", &id.to_string()]).await
    }

    /// Returns a job, and its payload as raw JSON, so that its numbers are not changed.
    pub(crate) async fn job_with_payload(
        &self,
        id: Uuid,
    ) -> Result<(JobDetails, Box<RawValue>), Error> {
        #[derive(Deserialize)]
        struct Payload {
            payload: Box<RawValue>,
        }
        let id = id.to_string();
        let path = ["jobs", &*id];
        let raw: Box<RawValue> = self.get(&path, &[]).await?;
        let understood = || {
            let Payload { payload } = serde_json::from_str(raw.get())?;
            let mut json: Value = serde_json::from_str(raw.get())?;
            name_service(&mut json, &self.service);
            Ok((serde_json::from_value(json)?, payload))
        };
        understood().map_err(|error: serde_json::Error| {
            self.not_understood(&Method::GET, &path, 200, &error.to_string())
        })
    }

    /// Retries or discards jobs. `act` is the name in the API.
    pub(crate) async fn change_jobs(
        &self,
        act: &str,
        selection: &JobSelection,
        why: &str,
    ) -> Result<ChangedJobs, Error> {
        self.change(Method::POST, &["jobs", act], &JobsRequest { selection, why }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_the_body_have_the_same_names() {
        let filter = JobFilter {
            kind: Some("k".into()),
            state: Some(JobState::Failed),
            subject: Some("s".into()),
            until: Some("2026-11-25T10:00:00Z".into()),
        };
        let body = serde_json::to_value(&filter).unwrap();
        let query = filter.query().into_iter();
        let query = query.map(|(name, value)| (name.to_owned(), value.into())).collect();
        assert_eq!(body, Value::Object(query));
        let change =
            JobsRequest { selection: &JobSelection::Filter(JobFilter::default()), why: "w" };
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"filter":{},"why":"w"}"#);
    }
}
