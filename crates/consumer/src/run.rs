//! From joining the group to leaving it, again and again.

use std::sync::Arc;
use std::time::Duration;

use kafka::TopicsError;
use kafka::rdkafka::error::KafkaError;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinError;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consumer::Consumer;
use crate::dead_letters::DeadLetters;
use crate::history::Histories;
use crate::intake::{Context, Intake};
use crate::lane::Lane;
use crate::partitions::{Partitions, TopicPartition};
use crate::pipeline::Pipeline;
use crate::reader::Reader;
use crate::retention::{self, NotChecked};
use crate::topics::SubscribedTopics;
use crate::verdict::Judge;

/// How long a consumer waits before it starts again.
const BACKOFF: Duration = Duration::from_secs(1);

/// What ends one run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Topics(#[from] TopicsError),
    #[error("none of its topics can be read")]
    NoTopics,
    #[error("duplicates could not be told")]
    Retention(#[from] NotChecked),
    #[error("the Kafka client failed")]
    Kafka(#[from] KafkaError),
    #[error("the polling thread panicked")]
    Panicked(#[from] JoinError),
}

/// Runs the consumer until shutdown, and again a second after it failed.
pub(crate) async fn run(consumer: &Consumer, shutdown: CancellationToken) {
    let group = consumer.group();
    while !shutdown.is_cancelled() {
        let error = match once(consumer, &shutdown).await {
            Ok(true) => {
                tracing::info!(group, "consumer drained and left its group");
                continue;
            }
            Ok(false) => {
                tracing::warn!(
                    group,
                    "consumer left its group while handlers still ran; their messages will come again"
                );
                continue;
            }
            Err(error) => error,
        };
        let _halted = match &error {
            RunError::Retention(too_short @ NotChecked::TooShort { .. }) => {
                Some(consumer.status.halt(too_short.to_string()))
            }
            _ => None,
        };
        // Missing topics were logged once, when they were found.
        if !matches!(error, RunError::NoTopics) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                group,
                "consumer failed, restarting"
            );
        }
        shutdown.run_until_cancelled(sleep(BACKOFF)).await;
    }
}

/// From joining the group to leaving it. Returns `false` if something still ran at the end.
async fn once(consumer: &Consumer, shutdown: &CancellationToken) -> Result<bool, RunError> {
    let topics = SubscribedTopics::new(
        &consumer.subscription,
        consumer.kafka.clone(),
        consumer.topic_policy,
        consumer.status.clone(),
    );
    let Some(readable) = shutdown.run_until_cancelled(readable(&topics)).await else {
        return Ok(true);
    };
    let readable = readable?;
    let asking = is_retention_known(consumer, &readable);
    let Some(retention_known) = shutdown.run_until_cancelled(asking).await else {
        return Ok(true);
    };
    let retention_known = retention_known?;

    let run = shutdown.child_token();
    // However this ends, also by being dropped: the polling thread must not outlive it.
    let _ends = run.clone().drop_guard();
    let partitions = Arc::new(Partitions::default());
    let pipeline = Arc::new(pipeline(consumer, Arc::clone(&partitions), run.clone())?);
    let tasks = TaskTracker::new();
    let lanes = (0..consumer.options.lanes).map(|_| {
        let (lane, queue) = mpsc::unbounded_channel();
        tasks.spawn(Lane::new(Arc::clone(&pipeline), queue).run());
        lane
    });
    let lanes = lanes.collect();
    let (pool, group, options) =
        (consumer.pool.clone(), consumer.group(), consumer.options.clone());
    tasks.spawn(retention::prune(pool, group.clone(), options.clone(), run.clone()));
    if !retention_known {
        let (kafka, status) = (consumer.kafka.clone(), consumer.status.clone());
        let (options, topics) = (options.clone(), readable.clone());
        tasks.spawn(retention::until_known(options, kafka, topics, status, run.clone()));
    }
    if !topics.are_all(&readable) {
        tasks.spawn(topics.end_when_there_are_more(readable.clone(), run.clone()));
    }
    let (left, leaving) = mpsc::unbounded_channel();
    tasks.spawn(leave(consumer.histories(), leaving));
    let context = Context {
        partitions,
        left,
        drain_timeout: options.drain_timeout,
        instruments: consumer.instruments.clone(),
        kafka: consumer.kafka.clone(),
    };
    let (kafka, instruments, until) =
        (consumer.kafka.clone(), consumer.instruments.clone(), run.clone());
    // The client is made, used and dropped on one thread: dropping it blocks.
    let polling = tokio::task::spawn_blocking(move || {
        let intake = Intake::new(&kafka, &group, &readable, context, lanes, options, instruments);
        intake?.run(&until)
    });
    let ended = polling.await;
    run.cancel();
    drained(consumer, ended?, &tasks).await
}

/// Ensures the topics, and returns the names on the cluster of those that are to be read now.
async fn readable(topics: &SubscribedTopics) -> Result<Vec<String>, RunError> {
    let readable = topics.ensure().await?;
    if readable.is_empty() {
        return Err(RunError::NoTopics);
    }
    Ok(readable)
}

/// Returns whether it is known that the inbox remembers longer than these topics. Fails if it is known that it does not.
async fn is_retention_known(consumer: &Consumer, topics: &[String]) -> Result<bool, RunError> {
    let checked = retention::check(&consumer.options, &consumer.kafka, topics).await;
    let unknown = match checked {
        Ok(()) => Vec::new(),
        Err(unknown @ NotChecked::Unknown(_)) => vec![unknown.to_string()],
        Err(error) => return Err(error.into()),
    };
    let is_known = unknown.is_empty();
    if consumer.status.set_problems(retention::FOUND_BY, unknown.clone()) {
        for problem in unknown {
            tracing::warn!(group = consumer.group(), problem, "topic retention unknown");
        }
    }
    Ok(is_known)
}

fn pipeline(
    consumer: &Consumer,
    partitions: Arc<Partitions>,
    shutdown: CancellationToken,
) -> Result<Pipeline, KafkaError> {
    let Consumer { subscription, pool, kafka, options, instruments, status, .. } = consumer;
    let histories = consumer.histories();
    let dead_letters = DeadLetters::new(
        kafka,
        &consumer.group(),
        pool.clone(),
        Arc::clone(&histories),
        instruments.clone(),
        status.clone(),
    )?;
    Ok(Pipeline {
        reader: Reader::new(Arc::clone(subscription), Arc::clone(&histories), kafka.clone()),
        judge: Judge::new(consumer.attempts(), histories, options.retries, options.max_replays),
        dead_letters,
        partitions,
        status: status.clone(),
        options: options.clone(),
        instruments: instruments.clone(),
        shutdown,
    })
}

/// Waits for the lanes, and notes that this instance ended in good order if it did.
async fn drained(
    consumer: &Consumer,
    polling: Result<bool, KafkaError>,
    tasks: &TaskTracker,
) -> Result<bool, RunError> {
    tasks.close();
    let limit = consumer.options.drain_timeout;
    let ended_well = timeout(limit, tasks.wait()).await.is_ok();
    let drained = polling?;
    if drained && ended_well {
        let left = timeout(limit, consumer.histories().left_all()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                "end of this instance not noted; the next one will handle messages with caution"
            );
        }
    }
    Ok(drained)
}

/// Notes which partitions were given up in good order.
async fn leave(histories: Arc<Histories>, mut leaving: UnboundedReceiver<Vec<TopicPartition>>) {
    while let Some(partitions) = leaving.recv().await {
        if let Err(error) = histories.left(&partitions).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "partitions given up, which is not noted; the next instance will handle messages with caution"
            );
        }
    }
}
