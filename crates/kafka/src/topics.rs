use std::time::Duration;

use events::{Event, InvoiceIssued, OrderCompleted, OrderCreated, OrderUpdated};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Settings;

/// The largest event that is published: data and headers. Kafka's own default for a record.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// A dead letter is an event with more headers; so there is always room for it.
pub(crate) const MAX_DEAD_LETTER_BYTES: usize = 2 * MAX_EVENT_BYTES;

const DAY: Duration = Duration::from_hours(24);

/// A topic as it should be on the cluster. Names are without the prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// How many consumers can share it. Never lowered, and raised only with care: a key moves.
    pub partitions: i32,
    /// How long records are kept; for ever if none.
    pub retention: Option<Duration>,
    /// The largest record it takes.
    pub max_record_bytes: usize,
}

impl Topic {
    /// The topics of all events.
    pub fn events() -> Vec<Self> {
        [OrderCreated::TYPE, OrderUpdated::TYPE, OrderCompleted::TYPE, InvoiceIssued::TYPE]
            .map(Self::event)
            .into()
    }

    /// The topic of one event type.
    pub fn event(event_type: &str) -> Self {
        Self {
            name: event_type.to_owned(),
            partitions: 6,
            retention: Some(30 * DAY),
            max_record_bytes: MAX_EVENT_BYTES,
        }
    }

    /// Where a consumer group's replays come in.
    pub fn retry(group: &str) -> Self {
        Self {
            name: format!("{group}.retry"),
            partitions: 1, // They are shared out with those of events; keys run side by side all the same.
            retention: Some(7 * DAY),
            max_record_bytes: MAX_DEAD_LETTER_BYTES,
        }
    }

    /// Where a consumer group puts what it could not process.
    pub fn dead_letters(group: &str) -> Self {
        Self {
            name: format!("{group}.dlq"),
            partitions: 1,
            retention: None,
            max_record_bytes: MAX_DEAD_LETTER_BYTES,
        }
    }
}

/// Topics that could not be ensured.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// The cluster did not answer.
    #[error("the cluster could not be asked for its topics")]
    Unreachable(#[from] KafkaError),
    /// It refused one.
    #[error("the cluster refuses to create the topic {0}: {1}")]
    Refused(String, RDKafkaErrorCode),
}

/// Creates those of the topics that are missing; one that exists stays as it is. Replication is the
/// cluster's default.
pub async fn ensure(settings: &Settings, topics: &[Topic]) -> Result<(), EnsureError> {
    let admin: AdminClient<DefaultClientContext> = settings.client().create()?;
    let names: Vec<_> = topics.iter().map(|topic| settings.prefixed(&topic.name)).collect();
    let configs: Vec<_> = topics
        .iter()
        .map(|topic| {
            let retention = topic.retention.map_or(-1, |kept| i128::from(kept.as_secs()) * 1000);
            (retention.to_string(), topic.max_record_bytes.to_string())
        })
        .collect();
    let wanted: Vec<_> = topics
        .iter()
        .zip(names.iter().zip(&configs))
        .map(|(topic, (name, (retention, max_bytes)))| {
            NewTopic::new(name, topic.partitions, TopicReplication::Fixed(-1))
                .set("retention.ms", retention)
                .set("max.message.bytes", max_bytes)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    for result in admin.create_topics(&wanted, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(EnsureError::Refused(name, code)),
        }
    }
    Ok(())
}
