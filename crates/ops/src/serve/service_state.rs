//! State of a service, polled from its admin API.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, SystemTime};

use crate::client::{
    Act, Answer, Client, JobFilter, JobState, LetterGroup, Merged, Metrics, OUTBOX_AGE,
    OUTBOX_DEPTH, Order, Readiness, Sample, Subscription,
};
use crate::error::{Error, with_cause};
use crate::lag::Subscribed;
use crate::moment::rough;

/// Time limit of one request to a service.
const ANSWER: Duration = Duration::from_secs(4);
/// Maximum number of reasons of dead letters to read, which takes several pages.
const MOST_REASONS: usize = 2_000;
/// Maximum number of failed jobs to count, of a service and then of each kind: its largest page.
pub(crate) const MOST_JOBS: usize = 1_000;

/// Number of the newest replays to check for changes.
const NEWEST: usize = 50;
/// Number of the last acts to keep, which usually cover an hour.
const MOST_ACTS: usize = 50;

/// Metrics of services that alerts need, by their names in the exposition.
pub(crate) const DEFERRED_DROPPED: &str = "defer_dropped_total";
pub(crate) const MESSAGES_LOST: &str = "consumer_lost_total";
pub(crate) const JOBS_DEAD: &str = "jobs_dead_total";
pub(crate) const STARTED_AT: &str = "process_start_time_seconds";

/// Labels of the kind of jobs, of the deferred task, and of the consumer group.
pub(crate) const JOB_LABEL: &str = "job_kind";
pub(crate) const TASK_LABEL: &str = "defer_task";
pub(crate) const GROUP_LABEL: &str = "messaging_consumer_group_name";

/// State of a service. Parts that it did not answer are `None`.
#[derive(Clone, Debug)]
pub(crate) struct ServiceState {
    pub(crate) service: String,
    /// Why it is not ready. `None` if it is ready.
    pub(crate) down: Option<String>,
    /// Its readiness report, whether ready or not.
    pub(crate) readiness: Option<Readiness>,
    pub(crate) subscribed: Option<Vec<Subscribed>>,
    /// Dead letters by group.
    pub(crate) letters: Option<BTreeMap<String, Letters>>,
    /// Failed jobs by kind.
    pub(crate) failed_jobs: Option<BTreeMap<String, u64>>,
    pub(crate) metrics: Option<Metrics>,
    /// The subscriptions, with their states.
    pub(crate) subscriptions: Option<Vec<Answer<Subscription>>>,
    /// The last acts of operators, newest first.
    pub(crate) acts: Option<Vec<Answer<Act>>>,
    pub(crate) digests: Digests,
}

/// Digests of the responses, by which changes are detected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digests {
    pub(crate) overview: u64,
    pub(crate) failures: u64,
    pub(crate) subscriptions: u64,
    pub(crate) acts: u64,
}

/// Returns a digest of a value's debug output.
fn digest(value: &impl Debug) -> u64 {
    struct HashWriter(DefaultHasher);
    impl Write for HashWriter {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hasher = HashWriter(DefaultHasher::new());
    let _ = write!(hasher, "{value:?}");
    hasher.0.finish()
}

/// The dead letters of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Letters {
    /// Number of letters by status, with the names in the API.
    pub(crate) by_status: BTreeMap<&'static str, u64>,
    /// When the newest reason first occurred, or occurred again after it was resolved.
    pub(crate) newest_reason: Option<SystemTime>,
    /// When the last message was dead-lettered.
    pub(crate) last: Option<SystemTime>,
    /// Groups by reason.
    pub(crate) groups: Vec<LetterGroup>,
}

impl ServiceState {
    /// Sends all requests to a service concurrently, each with a time limit.
    pub(crate) async fn ask(client: &Client) -> Self {
        let (ready, subscriptions, letters, jobs, metrics, replays, acts) = tokio::join!(
            asked(async { client.readiness().await.map(Some) }),
            asked(client.subscriptions()),
            asked(letters(client)),
            asked(failed_jobs(client, None)),
            asked(client.metrics()),
            asked(async { Ok(client.replays(None).of_page(NEWEST).page().await?.0) }),
            asked(async { Ok(client.acts(None).of_page(MOST_ACTS).page().await?.0) }),
        );
        let subscriptions = subscriptions.ok();
        let subscribed = subscriptions.clone().map(|all| {
            let all = all.into_iter().map(Answer::into_known).map(|it| Subscribed {
                service: client.service.clone(),
                group: it.group,
                topics: it.topics,
            });
            all.collect::<Vec<_>>()
        });
        let jobs = with_all_kinds(client, jobs, metrics.as_ref().ok()).await;
        let readiness = ready.as_ref().ok().cloned().flatten();
        let down = down_reason(ready);
        let digests = Digests {
            overview: digest(&(&down, &readiness, outbox(metrics.as_ref().ok()))),
            failures: digest(&(&letters, replays)),
            subscriptions: digest(&subscriptions),
            acts: digest(&acts),
        };
        let mut letters = letters.ok();
        // A group without letters is exported as 0.
        for group in subscribed.iter().flatten().map(|it| &it.group) {
            if let Some(letters) = &mut letters {
                letters.entry(group.clone()).or_default();
            }
        }
        Self {
            service: client.service.clone(),
            down,
            readiness,
            subscribed,
            letters: letters
                .map(|all| all.into_iter().map(|(it, of)| (it, of.complete())).collect()),
            failed_jobs: jobs.ok(),
            metrics: metrics.ok(),
            subscriptions,
            acts: acts.ok(),
            digests,
        }
    }

    /// Returns the problem of the service in a word. Returns `None` if it is ready.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match (&self.down, &self.readiness) {
            (None, Some(it)) => (!it.is_ready()).then_some(&*it.status),
            (Some(_), _) | (None, None) => Some("not ready"),
        }
    }

    /// Returns the samples of a metric.
    pub(crate) fn samples_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.metrics.iter().flat_map(|it| it.samples(name))
    }
}

impl Letters {
    const STATUSES: [&'static str; 5] = ["dead", "parked", "replaying", "resolved", "discarded"];

    fn add(&mut self, group: &LetterGroup) {
        let LetterGroup { open, parked, replaying, resolved, discarded, .. } = group;
        let dead = open.saturating_sub(*parked).saturating_sub(*replaying);
        let counts = [dead, *parked, *replaying, *resolved, *discarded];
        for (status, count) in Self::STATUSES.into_iter().zip(counts) {
            *self.by_status.entry(status).or_default() += count;
        }
        let began = match &*group.status {
            "open" => Some(&group.first_at),
            "regressed" => Some(&group.last_at),
            _ => None,
        };
        let began = began.and_then(|at| humantime::parse_rfc3339(at).ok());
        self.newest_reason = self.newest_reason.max(began);
        self.last = self.last.max(humantime::parse_rfc3339(&group.last_at).ok());
    }

    fn complete(mut self) -> Self {
        for status in Self::STATUSES {
            self.by_status.entry(status).or_default();
        }
        self
    }
}

/// Returns the displayed state of an outbox: its depth, and its age in the largest unit.
fn outbox(metrics: Option<&Metrics>) -> Option<String> {
    let age = Duration::try_from_secs_f64(metrics?.largest(OUTBOX_AGE)?.max(0.0)).ok()?;
    Some(format!("{:?} {}", metrics?.largest(OUTBOX_DEPTH), rough(age)))
}

async fn letters(client: &Client) -> Result<BTreeMap<String, Letters>, Error> {
    let listing = client.letter_groups(None);
    let mut groups = Merged::new(vec![listing], MOST_REASONS, Order::AsListed);
    let mut letters = BTreeMap::<String, Letters>::new();
    let mut read = 0;
    while let Some(group) = groups.next().await? {
        let of = letters.entry(group.group.clone()).or_default();
        of.add(&group);
        of.groups.push(group.into_known());
        read += 1;
        if read == MOST_REASONS {
            break;
        }
    }
    match groups.unavailable.pop() {
        Some((_, error)) => Err(error),
        None => Ok(letters),
    }
}

/// Failed jobs by kind.
type FailedJobs = BTreeMap<String, u64>;

/// Counts the jobs that have failed for good, of one kind or of all, up to [`MOST_JOBS`].
async fn failed_jobs(client: &Client, kind: Option<String>) -> Result<FailedJobs, Error> {
    let failed = JobFilter { kind, state: Some(JobState::Failed), ..JobFilter::default() };
    let (jobs, _) = client.jobs(&failed).of_page(MOST_JOBS).page().await?;
    let mut kinds = BTreeMap::new();
    for job in jobs {
        *kinds.entry(job.kind.clone()).or_default() += 1;
    }
    Ok(kinds)
}

/// Counts the failed jobs of each other kind, too, if there were too many of some to count all.
async fn with_all_kinds(
    client: &Client,
    jobs: Result<FailedJobs, String>,
    metrics: Option<&Metrics>,
) -> Result<FailedJobs, String> {
    let mut counted = jobs?;
    if counted.values().sum::<u64>() < MOST_JOBS as u64 {
        return Ok(counted);
    }
    let Some(metrics) = metrics else {
        return Err("its kinds of jobs are unknown without its metrics".to_owned());
    };
    let kinds: BTreeSet<_> =
        metrics.samples(JOBS_DEAD).filter_map(|it| it.label(JOB_LABEL)).collect();
    for kind in kinds {
        counted.extend(asked(failed_jobs(client, Some(kind.to_owned()))).await?);
    }
    Ok(counted)
}

fn down_reason(ready: Result<Option<Readiness>, String>) -> Option<String> {
    match ready {
        Ok(None) => Some("it has no /readyz: is this URL its admin port?".to_owned()),
        Ok(Some(it)) => (!it.serves()).then(|| it.troubles().join("; ")),
        Err(why) => Some(why),
    }
}

/// Returns the response, or the reason why there is none. A service without the path has an empty
/// result.
async fn asked<T: Default>(asking: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_not_found() => Ok(T::default()),
        Ok(Err(error)) => Err(with_cause(&error)),
        Err(_) => Err(format!("no answer within {ANSWER:?}")),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Returns a service that is ready and has no other data.
    pub(crate) fn state(service: &str) -> ServiceState {
        ServiceState {
            service: service.into(),
            down: None,
            readiness: None,
            subscribed: None,
            letters: None,
            failed_jobs: None,
            metrics: None,
            subscriptions: None,
            acts: None,
            digests: Digests::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(status: &str, first_at: &str, last_at: &str) -> LetterGroup {
        serde_json::from_value(json!({
            "fingerprint": "f", "group": "billing", "event_type": null, "exception": "x", "reason": "r",
            "status": status, "note": null, "by": null, "open": 5, "parked": 1, "replaying": 2,
            "resolved": 3, "discarded": 4, "first_at": first_at, "last_at": last_at,
        }))
        .unwrap()
    }

    #[test]
    fn letters_are_counted_by_status_and_a_reason_is_new_when_it_is_met_or_comes_back() {
        let mut letters = Letters::default();
        letters.add(&group("open", "2026-11-25T10:00:00.123456Z", "2026-11-25T13:00:00Z"));
        letters.add(&group("acknowledged", "2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z"));
        let at = |text| humantime::parse_rfc3339(text).unwrap();
        let newest = letters.newest_reason.unwrap();
        assert!(newest >= at("2026-11-25T10:00:00Z") && newest < at("2026-11-25T10:00:01Z"));
        letters.add(&group("regressed", "2026-11-25T01:00:00Z", "2026-11-25T11:00:00Z"));
        assert_eq!(letters.newest_reason, Some(at("2026-11-25T11:00:00Z")));
        assert_eq!(letters.last, Some(at("2026-11-25T13:00:00Z")));
        let counts =
            [("dead", 6), ("parked", 3), ("replaying", 6), ("resolved", 9), ("discarded", 12)];
        assert_eq!(letters.by_status, counts.into());
    }
}
