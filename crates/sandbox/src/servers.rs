use std::time::Duration;

use crate::{Error, Kafka, Postgres, ProcessRecord, Progress, ServersOptions, Tools};

/// Postgres and Kafka, both running.
#[derive(Debug)]
pub struct Servers {
    /// Postgres.
    pub postgres: Postgres,
    /// Kafka.
    pub kafka: Kafka,
}

impl Servers {
    /// Starts both concurrently. If one fails, the other is stopped.
    ///
    /// # Errors
    /// As [`Postgres::start`] and [`Kafka::start`].
    pub async fn start(
        options: ServersOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let postgres = options.each("postgres", options.postgres_port, &options.postgres_settings);
        let kafka = options.each("kafka", options.kafka_port, &options.kafka_settings);
        let start_kafka = async {
            if options.kafka_cluster {
                Kafka::start_cluster(kafka, tools, progress).await
            } else {
                Kafka::start(kafka, tools, progress).await
            }
        };
        // Boxed, since the future of every caller would otherwise be some kilobytes larger.
        let (postgres, kafka) = tokio::try_join!(
            Box::pin(Postgres::start(postgres, tools, progress)),
            Box::pin(start_kafka)
        )?;
        Ok(Self { postgres, kafka })
    }

    /// Stops both, and removes their folders if those are temporary.
    pub async fn stop(self) {
        tokio::join!(self.postgres.stop(), self.kafka.stop());
    }

    /// Leaves both running. Returns the records of Postgres and Kafka.
    ///
    /// # Errors
    /// As [`Postgres::detach`]. Neither runs then.
    pub async fn detach(self) -> Result<[ProcessRecord; 2], Error> {
        let kafka = self.kafka.detach()?;
        match self.postgres.detach() {
            Ok(postgres) => Ok([postgres, kafka]),
            Err(error) => {
                kafka.stop(Duration::from_secs(10)).await;
                Err(error)
            }
        }
    }
}
