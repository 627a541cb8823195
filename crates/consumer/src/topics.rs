//! The topics of a subscription: those that it owns are created, and those of others are waited for.

use std::time::Duration;

use kafka::{
    Settings, TopicPolicy, TopicProblem, Topics, TopicsError, dead_letter_topic, retry_topic,
};
use tokio_util::sync::CancellationToken;

use crate::status::Status;
use crate::subscription::Subscription;

/// How often it is asked whether a missing topic is there by now.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Who found the problems in the status.
const FOUND_BY: &str = "topics";

pub(crate) struct SubscribedTopics {
    topics: Topics,
    /// Of them, those that are read: without the dead letters. Names without the prefix.
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
        let mut owned = vec![retry_topic(&group), dead_letter_topic(&group)];
        owned.extend_from_slice(subscription.owned());
        let others = subscription.topics();
        let others = others.iter().filter(|name| owned.iter().all(|it| it.name != **name));
        let needed = others.map(|name| (*name).to_owned()).collect();
        let mut read: Vec<_> = subscription.topics().into_iter().map(str::to_owned).collect();
        read.push(retry_topic(&group).name.into_owned());
        Self { topics: Topics { owned, needed }, read, group, kafka, policy, status }
    }

    /// Creates what is missing and may be created, shows and logs what is not as it should be, and returns the names on the
    /// cluster of the topics that can be read by now.
    pub(crate) async fn ensure(&self) -> Result<Vec<String>, TopicsError> {
        let problems = kafka::ensure(&self.kafka, &self.topics, self.policy).await?;
        let told = problems.iter().map(ToString::to_string).collect();
        if self.status.set_problems(FOUND_BY, told) {
            for problem in &problems {
                tracing::warn!(group = self.group, topic = problem.topic, %problem, "topic problem");
            }
        }
        let missing: Vec<_> = problems.iter().filter(|it| it.is_missing()).collect();
        let is_there = |name: &&String| missing.iter().all(|it: &&TopicProblem| it.topic != **name);
        Ok(self.read.iter().filter(is_there).map(|name| self.kafka.prefixed(name)).collect())
    }

    /// Returns whether these are all that are to be read.
    pub(crate) fn are_all(&self, topics: &[String]) -> bool {
        topics.len() == self.read.len()
    }

    /// Ends `run` when more topics can be read than `now`, so that the next one reads them too.
    pub(crate) async fn end_when_there_are_more(self, now: Vec<String>, run: CancellationToken) {
        while run.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
            match self.ensure().await {
                Ok(topics) if topics.len() > now.len() => {
                    tracing::info!(group = self.group, ?topics, "topics created, reading them too");
                    run.cancel();
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "topics not known");
                }
            }
        }
    }
}
