use std::time::Duration;

use kafka::{Settings, TopicPolicy, TopicProblem, TopicSpec, Topics};
use tokio_util::sync::CancellationToken;

use crate::admin::TopicProblems;

/// Interval of checks while the cluster does not answer or a topic is missing.
const WHILE_MISSING: Duration = Duration::from_secs(2);
/// Interval of checks while all topics exist.
const WHILE_THERE: Duration = Duration::from_secs(15);

/// Checks the topics that the service owns periodically, since one can be deleted; creates missing
/// ones, and reports and logs problems. Runs in the background, because a service is ready without
/// Kafka.
pub(super) async fn ensure_topics(
    kafka: Settings,
    owned: Vec<TopicSpec>,
    policy: TopicPolicy,
    found: TopicProblems,
    shutdown: CancellationToken,
) {
    if policy == TopicPolicy::Off {
        return;
    }
    let topics = Topics { owned, ..Topics::default() };
    loop {
        let mut wait = WHILE_MISSING;
        let ensured = shutdown.run_until_cancelled(kafka::ensure(&kafka, &topics, policy)).await;
        match ensured {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "topics not checked or created, retrying"
                );
            }
            Some(Ok(problems)) => {
                let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
                if *found.borrow() != messages {
                    for problem in &problems {
                        tracing::warn!(topic = problem.topic, %problem, "topic problem");
                    }
                    found.send_replace(messages);
                }
                if !problems.iter().any(TopicProblem::is_missing) {
                    wait = WHILE_THERE;
                }
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}
