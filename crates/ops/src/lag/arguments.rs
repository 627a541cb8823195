use clap::Args;
use kafka::{ClientOptions, Settings};

use crate::error::Error;

/// How to connect to Kafka.
#[derive(Args)]
pub(crate) struct KafkaArguments {
    /// Addresses of Kafka's brokers
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    brokers: String,
    /// Prefix of the services' topics and groups
    #[arg(long = "topic-prefix", env = "KAFKA_TOPIC_PREFIX", default_value = "")]
    #[arg(hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl KafkaArguments {
    /// Returns the settings of a client. Fails if they are invalid.
    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        client_settings(&self.client, Settings::new(&self.brokers, &self.prefix))
    }
}

/// Returns `settings` with the options of a client. Fails if they are invalid.
pub(crate) fn client_settings(
    options: &ClientOptions,
    settings: Settings,
) -> Result<Settings, Error> {
    options.apply(settings).map_err(|error| Error::Refused(error.to_string()))
}
