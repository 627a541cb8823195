//! The topics of a subscription: creates those that it owns, and waits for those of other
//! publishers.

use std::time::Duration;

use kafka::{Settings, TopicPolicy, TopicProblem, Topics, TopicsError, dead_letter_topic};
use tokio_util::sync::CancellationToken;

use crate::status::Status;
use crate::subscription::Subscription;

/// Interval of checks while a topic of the subscription is missing.
const WHILE_MISSING: Duration = Duration::from_secs(1);
/// Interval of checks while there is another problem.
const WHILE_WRONG: Duration = Duration::from_secs(10);
/// Interval of checks without problems. With `KAFKA_TOPICS=create` a deleted topic is created again
/// within this time.
const WHILE_WELL: Duration = Duration::from_secs(15);
/// Source of the problems in the status.
const FOUND_BY: &str = "topics";

/// Result of checking the topics.
pub(crate) struct TopicCheck {
    /// Readable topics, by their names on the cluster.
    pub(crate) readable: Vec<String>,
    /// `true` if there is no problem.
    pub(crate) all_well: bool,
}

pub(crate) struct SubscribedTopics {
    topics: Topics,
    /// Topics to read, without the dead-letter topic. Names without the prefix.
    read: Vec<String>,
    group: String,
    kafka: Settings,
    policy: TopicPolicy,
    status: Status,
}

impl SubscribedTopics {
    pub(crate) fn new(
        subscription: &Subscription,
        kafka: Settings,
        policy: TopicPolicy,
        status: Status,
    ) -> Self {
        let group = subscription.group();
        let mut owned = vec![dead_letter_topic(&group)];
        owned.extend_from_slice(subscription.owned());
        let others = subscription.topics();
        let others = others.iter().filter(|name| owned.iter().all(|it| it.name != **name));
        let needed = others.map(|name| (*name).to_owned()).collect();
        let read = subscription.topics().into_iter().map(str::to_owned).collect();
        Self { topics: Topics { owned, needed }, read, group, kafka, policy, status }
    }

    /// Creates missing topics if allowed, reports and logs problems, and returns the readable
    /// topics.
    pub(crate) async fn ensure(&self) -> Result<TopicCheck, TopicsError> {
        let problems = kafka::ensure(&self.kafka, &self.topics, self.policy).await?;
        let descriptions = problems.iter().map(ToString::to_string).collect();
        if self.status.set_problems(FOUND_BY, descriptions) {
            for problem in &problems {
                tracing::warn!(group = self.group, topic = problem.topic, %problem, "topic problem");
            }
        }
        let missing: Vec<_> = problems.iter().filter(|it| it.is_missing()).collect();
        let is_there = |name: &&String| missing.iter().all(|it: &&TopicProblem| it.topic != **name);
        let readable = self.read.iter().filter(is_there).map(|name| self.kafka.prefixed(name));
        Ok(TopicCheck { readable: readable.collect(), all_well: problems.is_empty() })
    }

    /// Checks periodically, since a topic can disappear. Ends `run` when more topics have become
    /// readable, so that the next run reads them too.
    pub(crate) async fn recheck(self, found: TopicCheck, run: CancellationToken) {
        let TopicCheck { readable, mut all_well } = found;
        let mut before = readable.len();
        loop {
            let wait = match (before < self.read.len(), all_well) {
                (true, _) => WHILE_MISSING,
                (false, false) => WHILE_WRONG,
                (false, true) => WHILE_WELL,
            };
            if run.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            let Some(found) = run.run_until_cancelled(self.ensure()).await else { return };
            match found {
                Ok(TopicCheck { readable, .. }) if readable.len() > before => {
                    tracing::info!(group = self.group, topics = ?readable, "topics added");
                    run.cancel();
                }
                Ok(found) => (before, all_well) = (found.readable.len(), found.all_well),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "topic metadata unavailable"
                    );
                }
            }
        }
    }
}
