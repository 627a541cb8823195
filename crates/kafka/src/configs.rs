use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Settings;
use crate::admin::Admin;

/// The settings of topics, as far as the cluster reveals them.
pub(crate) struct Configs(HashMap<String, Result<Config, RDKafkaErrorCode>>);

/// The settings of one topic.
pub(crate) struct Config(ConfigResource);

impl Configs {
    /// Requests the settings of these topics (names on the cluster). Fails if the cluster does not
    /// answer.
    pub(crate) async fn ask(settings: &Settings, topics: &[String]) -> Result<Self, KafkaError> {
        let admin = Admin::new(settings)?;
        let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let answers = admin.client()?.describe_configs(&asked, &options).await?;
        let answers = answers.into_iter().map(|answer| answer.map(Config));
        Ok(Self(topics.iter().cloned().zip(answers).collect()))
    }

    /// Returns the settings of a topic, or why the cluster does not reveal them.
    pub(crate) fn of(&self, topic: &str) -> Result<&Config, RDKafkaErrorCode> {
        let config = self.0.get(topic).ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
        config.as_ref().map_err(|code| *code)
    }
}

impl Config {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.value.as_deref()
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }
}

/// Returns whether the cluster did not answer, as opposed to an error response.
pub(crate) fn is_unreachable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve,
    };
    error.rdkafka_error_code().is_none_or(|code| {
        [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve]
            .contains(&code)
    })
}
