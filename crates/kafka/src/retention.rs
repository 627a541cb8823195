use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Settings;

/// The brokers could not say how long a topic keeps its records.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The cluster did not answer.
    #[error("the cluster could not be asked how long it keeps records")]
    Unreachable(#[from] KafkaError),
    /// It refused.
    #[error("the cluster does not say how long {0} keeps its records: {1}")]
    Refused(String, RDKafkaErrorCode),
    /// It said something else.
    #[error("the cluster says nothing of {0}")]
    Unknown(&'static str),
}

/// How long a record of any of these topics (names on the cluster) may be read: `retention.ms`, and `segment.ms`,
/// because a segment is deleted as a whole when its newest record is old enough. None: for ever.
pub async fn longest_kept(
    settings: &Settings,
    topics: &[String],
) -> Result<Option<Duration>, RetentionError> {
    let admin: AdminClient<DefaultClientContext> = settings.client().create()?;
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    let answers = admin.describe_configs(&asked, &options).await?;
    let mut longest = Duration::ZERO;
    for (topic, answer) in topics.iter().zip(answers) {
        let config = answer.map_err(|code| RetentionError::Refused(topic.clone(), code))?;
        match kept(&config)? {
            Some(kept) => longest = longest.max(kept),
            None => return Ok(None),
        }
    }
    Ok(Some(longest))
}

fn kept(config: &ConfigResource) -> Result<Option<Duration>, RetentionError> {
    let retention = milliseconds(config, "retention.ms")?;
    let segment = milliseconds(config, "segment.ms")?;
    // Negative: for ever.
    Ok(u64::try_from(retention).ok().map(|retention| {
        Duration::from_millis(retention.saturating_add(segment.max(0).unsigned_abs()))
    }))
}

fn milliseconds(config: &ConfigResource, name: &'static str) -> Result<i64, RetentionError> {
    let value = config.get(name).and_then(|entry| entry.value.as_deref());
    value.and_then(|value| value.parse().ok()).ok_or(RetentionError::Unknown(name))
}
