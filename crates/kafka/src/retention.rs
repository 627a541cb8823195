use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Settings;
use crate::configs::{Configs, is_unreachable};

/// The brokers could not say how long a topic keeps its records.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The cluster did not answer.
    #[error("the cluster could not be asked how long it keeps records")]
    Unreachable(#[source] KafkaError),
    /// It answered with an error.
    #[error("the cluster does not tell how long it keeps records")]
    NotAnswered(#[source] KafkaError),
    /// It did not tell, usually for lack of the right to `DESCRIBE_CONFIGS`.
    #[error("the cluster does not tell how long {0} keeps its records: {1}")]
    Refused(String, RDKafkaErrorCode),
    /// It told something else.
    #[error("the cluster does not tell {1} of {0}")]
    Unknown(String, &'static str),
}

/// Returns how long a record of any of these topics (names on the cluster) may be read, `None` for ever: `retention.ms`
/// and `segment.ms`, because a segment is deleted as a whole when its newest record is old enough.
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
        let number =
            |name| config.number(name).ok_or_else(|| RetentionError::Unknown(topic.clone(), name));
        let (retention, segment) = (number("retention.ms")?, number("segment.ms")?);
        // Negative is for ever.
        let Ok(retention) = u64::try_from(retention) else { return Ok(None) };
        let kept = retention.saturating_add(segment.max(0).unsigned_abs());
        longest = longest.max(Duration::from_millis(kept));
    }
    Ok(Some(longest))
}

/// Returns how long each of these topics (names on the cluster) keeps a record at least, `None` for ever: `retention.ms`.
/// A topic of which the cluster does not tell is missing.
///
/// # Errors
/// If the cluster does not answer.
pub async fn retention_of(
    settings: &Settings,
    topics: &[String],
) -> Result<BTreeMap<String, Option<Duration>>, KafkaError> {
    let configs = Configs::ask(settings, topics).await?;
    let told = topics.iter().filter_map(|topic| {
        let kept = configs.of(topic).ok()?.number("retention.ms")?;
        // Negative is for ever.
        Some((topic.clone(), u64::try_from(kept).ok().map(Duration::from_millis)))
    });
    Ok(told.collect())
}
