use clap::Args;
use kafka::Settings;

use crate::error::Error;

/// Where Kafka is.
#[derive(Args)]
pub(crate) struct KafkaArguments {
    /// Kafka
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    brokers: String,
    /// What precedes the services' topics and groups
    #[arg(long = "topic-prefix", env = "KAFKA_TOPIC_PREFIX", default_value = "")]
    #[arg(hide_default_value = true)]
    prefix: String,
    /// Further librdkafka properties (TLS, SASL), `property=value,..`
    #[arg(long, env = "KAFKA_PROPERTIES", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    properties: String,
}

impl KafkaArguments {
    /// Returns the settings of a client. Fails if the properties are no pairs.
    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        let settings = Settings::new(&self.brokers, &self.prefix).with_properties(&self.properties);
        settings.map_err(|_| {
            Error::Refused("KAFKA_PROPERTIES is not of the form property=value,..".into())
        })
    }
}
