use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a record is not confirmed to be in Kafka.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// librdkafka infers the delivery of a record from that of a later one, also of one that Kafka
    /// refused (confluent-kafka-go#921). It has no offset then.
    #[error("the client reports the record as delivered, without an offset")]
    Nowhere,
    #[error("the record is larger than the client's queue")]
    LargerThanQueue,
    #[error("the headers of the row can't be read")]
    Headers(#[from] serde_json::Error),
}

/// Scope of a refusal, and so of the pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blame {
    /// The record, or another record of its batch.
    Record,
    Partition,
    Topic,
    /// The relay itself purged the record.
    Nobody,
}

impl Refusal {
    pub(crate) fn blame(&self) -> Blame {
        use RDKafkaErrorCode::{
            ClusterAuthorizationFailed, InvalidDifferentRecord, InvalidRecord, InvalidTimestamp,
            InvalidTopic, MessageSizeTooLarge, PolicyViolation, PurgeInflight, PurgeQueue,
            TopicAuthorizationFailed, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
        };
        let Self::Kafka(error) = self else {
            let is_own = matches!(self, Self::Headers(_) | Self::LargerThanQueue);
            return if is_own { Blame::Record } else { Blame::Partition };
        };
        match error.rdkafka_error_code() {
            Some(
                MessageSizeTooLarge | InvalidRecord | InvalidDifferentRecord | InvalidTimestamp,
            ) => Blame::Record,
            Some(
                UnknownTopic
                | UnknownTopicOrPartition
                | UnknownPartition
                | InvalidTopic
                | TopicAuthorizationFailed
                | ClusterAuthorizationFailed
                | PolicyViolation,
            ) => Blame::Topic,
            Some(PurgeQueue | PurgeInflight) => Blame::Nobody,
            _ => Blame::Partition,
        }
    }

    /// Returns the reason: the name of Kafka's error, if there is one.
    pub(crate) fn why(&self) -> String {
        let code = match self {
            Self::Kafka(error) => error.rdkafka_error_code(),
            _ => None,
        };
        code.map_or_else(|| self.to_string(), |code| code.to_string())
    }
}
