use std::collections::BTreeMap;

use rdkafka::error::KafkaError;

use crate::Settings;
use crate::configs::Configs;

/// Returns the maximum bytes of a batch in each of these topics (names on the cluster):
/// `max.message.bytes`. Topics whose limit the cluster does not reveal are missing.
///
/// # Errors
/// Fails if the cluster does not answer.
pub async fn record_limits(
    settings: &Settings,
    topics: &[String],
) -> Result<BTreeMap<String, usize>, KafkaError> {
    let configs = Configs::ask(settings, topics).await?;
    let limits = topics.iter().filter_map(|topic| {
        let limit = configs.of(topic).ok()?.number("max.message.bytes")?;
        Some((topic.clone(), usize::try_from(limit).ok()?))
    });
    Ok(limits.collect())
}
