use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Settings;
use crate::configs::{Config, Configs, is_unreachable};

const POLICY: &str = "cleanup.policy";

/// The retention of a topic is unknown.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The cluster did not answer.
    #[error("the retention of the topics could not be read")]
    Unreachable(#[source] KafkaError),
    /// The cluster answered with an error.
    #[error("the cluster does not report the retention of the topics")]
    NotAnswered(#[source] KafkaError),
    /// The cluster did not reveal the retention, usually because the permission `DESCRIBE_CONFIGS`
    /// is missing.
    #[error("the cluster does not report the retention of {0}: {1}")]
    Refused(String, RDKafkaErrorCode),
    /// The setting is missing in the answer.
    #[error("the cluster does not report {1} of {0}")]
    Unknown(String, &'static str),
}

/// Returns the longest time for which a record of any of these topics (names on the cluster) can be
/// read, or `None` for ever: `retention.ms` plus `segment.ms`, because a segment is deleted as a
/// whole when its newest record is old enough. Kafka keeps the last record of each key for ever if
/// `cleanup.policy` is `compact` alone.
///
/// # Errors
/// Fails if the cluster can't be reached, answers with an error, or does not reveal the retention
/// of one of the topics.
pub async fn longest_kept(
    settings: &Settings,
    topics: &[String],
) -> Result<Option<Duration>, RetentionError> {
    let configs = Configs::ask(settings, topics).await.map_err(|error| {
        if is_unreachable(&error) {
            RetentionError::Unreachable(error)
        } else {
            RetentionError::NotAnswered(error)
        }
    })?;
    let mut longest = Duration::ZERO;
    for topic in topics {
        let config =
            configs.of(topic).map_err(|code| RetentionError::Refused(topic.clone(), code))?;
        let unknown = |name| RetentionError::Unknown(topic.clone(), name);
        let number = |name| config.number(name).ok_or_else(|| unknown(name));
        if !deletes(config).ok_or_else(|| unknown(POLICY))? {
            return Ok(None);
        }
        let (retention, segment) = (number("retention.ms")?, number("segment.ms")?);
        // Negative is for ever.
        let Ok(retention) = u64::try_from(retention) else { return Ok(None) };
        let kept = retention.saturating_add(segment.max(0).unsigned_abs());
        longest = longest.max(Duration::from_millis(kept));
    }
    Ok(Some(longest))
}

/// Returns the minimum retention of each of these topics (names on the cluster), `None` for ever:
/// `retention.ms`, unless the topic is only compacted. Topics whose retention the cluster does not
/// reveal are missing.
///
/// # Errors
/// Fails if the cluster does not answer.
pub async fn retention_of(
    settings: &Settings,
    topics: &[String],
) -> Result<BTreeMap<String, Option<Duration>>, KafkaError> {
    let configs = Configs::ask(settings, topics).await?;
    let retentions = topics.iter().filter_map(|topic| {
        let config = configs.of(topic).ok()?;
        let (deletes, kept) = (deletes(config)?, config.number("retention.ms")?);
        // Negative is for ever.
        let kept = u64::try_from(kept).ok().filter(|_| deletes);
        Some((topic.clone(), kept.map(Duration::from_millis)))
    });
    Ok(retentions.collect())
}

/// Returns whether old segments of a topic are deleted, `None` if the cluster does not reveal it.
fn deletes(config: &Config) -> Option<bool> {
    Some(config.text(POLICY)?.split(',').any(|policy| policy.trim() == "delete"))
}
