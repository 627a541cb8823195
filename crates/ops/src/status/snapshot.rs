//! Reports of all services at one time.

use std::time::Duration;

use futures::future::join_all;
use kafka::Settings;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::client::{
    Act, Answer, Client, Job, JobFilter, JobState, LetterGroup, Metrics, Readiness, Replay,
    Subscription,
};
use crate::error::{Error, with_cause};
use crate::lag::{self, Lag};

/// Time limit of a service. All requests to all services are sent concurrently.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of failed jobs to count per service.
const JOBS: usize = 1_000;
/// Maximum number of groups of dead letters to read per service.
const GROUPS: usize = 1_000;
/// Maximum number of replays to search for unfinished ones. A group runs one at a time.
const REPLAYS: usize = 100;
/// Number of acts to show.
pub(super) const ACTS: usize = 3;

/// A part of a service's report, or the reason why it is missing.
pub(super) type Part<T> = Result<T, String>;

/// The reports of all services.
pub(super) struct Snapshot {
    pub(super) at: OffsetDateTime,
    pub(super) services: Vec<ServiceStatus>,
    /// The lag as measured from Kafka.
    pub(super) lag: Part<Lag>,
}

/// Report of a service.
pub(super) struct ServiceStatus {
    pub(super) name: String,
    pub(super) readiness: Part<Readiness>,
    pub(super) metrics: Part<Metrics>,
    pub(super) subscriptions: Part<Vec<Answer<Subscription>>>,
    pub(super) letter_groups: Part<Vec<Answer<LetterGroup>>>,
    /// The failed jobs, and whether these are all.
    pub(super) failed_jobs: Part<(Vec<Answer<Job>>, bool)>,
    /// The unfinished replays.
    pub(super) replays: Part<Vec<Answer<Replay>>>,
    /// The last acts, newest first.
    pub(super) acts: Part<Vec<Answer<Act>>>,
}

impl Snapshot {
    /// Queries all services and Kafka concurrently.
    pub(super) async fn take(clients: Vec<Client>, kafka: Settings) -> Self {
        let services = join_all(clients.iter().map(ServiceStatus::ask));
        let (services, lag) = tokio::join!(services, bounded(lag::measure(kafka, &clients)));
        Self { at: OffsetDateTime::now_utc(), services, lag }
    }
}

impl ServiceStatus {
    async fn ask(client: &Client) -> Self {
        let failed = JobFilter { state: Some(JobState::Failed), ..JobFilter::default() };
        let (readiness, metrics, subscriptions, letter_groups, failed_jobs, replays, acts) = tokio::join!(
            bounded(client.readiness()),
            bounded(client.metrics()),
            bounded(or_none(client.subscriptions())),
            bounded(or_none(async {
                let (groups, _) = client.letter_groups(None).of_page(GROUPS).page().await?;
                Ok(groups.into_iter().filter(|group| group.open > 0).collect())
            })),
            bounded(client.jobs(&failed).of_page(JOBS).page()),
            bounded(or_none(async {
                let (replays, _) = client.replays(None).of_page(REPLAYS).page().await?;
                let has_ended = |it: &Replay| matches!(&*it.status, "done" | "cancelled");
                Ok(replays.into_iter().filter(|replay| !has_ended(replay)).collect())
            })),
            bounded(async { Ok(client.acts(None).of_page(ACTS).page().await?.0) }),
        );
        Self {
            name: client.service.clone(),
            readiness,
            metrics,
            subscriptions,
            letter_groups,
            failed_jobs,
            replays,
            acts,
        }
    }

    /// Returns `true` if the service has answered any request.
    pub(super) fn is_reachable(&self) -> bool {
        self.readiness.is_ok()
    }
}

/// Returns the response if it arrives in time, else the reason why there is none.
async fn bounded<T>(asking: impl Future<Output = Result<T, Error>>) -> Part<T> {
    match timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(with_cause(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Returns an empty list if the service has no such list: a service without subscriptions need not
/// serve it.
async fn or_none<T: Default>(asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match asking.await {
        Err(error) if error.is_not_found() => Ok(T::default()),
        answer => answer,
    }
}

/// Returns the services whose part is missing although they answer, with the reason, and those that
/// do not answer.
pub(super) fn unknown<'a, T>(
    services: &'a [ServiceStatus],
    part: impl Fn(&'a ServiceStatus) -> &'a Part<T>,
) -> (Vec<(&'a str, &'a str)>, Vec<&'a str>)
where
    T: 'a,
{
    let (mut unknown, mut unreachable) = (Vec::new(), Vec::new());
    for service in services {
        match part(service) {
            Ok(_) => {}
            Err(why) if service.is_reachable() => unknown.push((&*service.name, &**why)),
            Err(_) => unreachable.push(&*service.name),
        }
    }
    (unknown, unreachable)
}
