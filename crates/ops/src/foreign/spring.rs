//! Spring for Apache Kafka. Its `DeadLetterPublishingRecoverer` writes `kafka_dlt-*`
//! (<https://docs.spring.io/spring-kafka/reference/kafka/annotation-error-handling.html#dead-letters>),
//! and `@RetryableTopic` the shorter names of `KafkaHeaders`: `kafka_original-*` and
//! `kafka_exception-*`, with the consumer group under `kafka_dlt-original-consumer-group`. Numbers
//! are big-endian.

use kafka::Record;

use super::{Death, Framework, Origin, details, first, last};

pub(super) const SPRING: Framework = Framework {
    name: "Spring",
    prefixes: &[
        "kafka_dlt-",
        "kafka_original-",
        "kafka_exception-",
        "kafka_key-exception-",
        "retry_topic-",
    ],
    read,
};

fn read(record: &Record) -> (Origin, Death) {
    // Each time that a record becomes a dead letter, the recoverer adds its place, unless it is
    // told not to. So the first header is the origin.
    let original = |name: &str| {
        first(record, &format!("kafka_dlt-original-{name}"))
            .or_else(|| first(record, &format!("kafka_original-{name}")))
    };
    // Of the exceptions the last one counts.
    let exception = |name: &str| {
        let names = ["dlt-exception", "exception", "dlt-key-exception", "key-exception"];
        names.iter().find_map(|prefix| last(record, &format!("kafka_{prefix}-{name}")))
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let origin = Origin {
        topic: original("topic").map(text),
        partition: original("partition").and_then(number),
        offset: original("offset").and_then(number),
        group: original("consumer-group").map(text),
    };
    let death = Death {
        exception: exception("fqcn"),
        message: exception("message"),
        stacktrace: exception("stacktrace"),
        details: details(
            record,
            &[
                ("cause", "kafka_dlt-exception-cause-fqcn"),
                ("cause", "kafka_exception-cause-fqcn"),
                ("key", "kafka_dlt-key-exception-message"),
                ("key", "kafka_key-exception-message"),
            ],
        ),
    };
    (origin, death)
}

/// Reads a Java `int` or `long`. Other producers with these names write text.
fn number(value: &[u8]) -> Option<i64> {
    if let Ok(value) = value.try_into() {
        return Some(i32::from_be_bytes(value).into());
    }
    if let Ok(value) = value.try_into() {
        return Some(i64::from_be_bytes(value));
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{ForeignLetter, dead_record};
    use super::*;

    #[test]
    fn what_the_recoverer_writes_is_read() {
        let letter = ForeignLetter::read(dead_record(&[
            ("tenant", b"acme"),
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-topic", b"orders-retry"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
            ("kafka_dlt-original-offset", &[0, 0, 1, 0, 0, 0, 0, 0]),
            ("kafka_dlt-original-consumer-group", b"billing"),
            ("kafka_dlt-exception-fqcn", b"org.x.ListenerExecutionFailedException"),
            ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"no such customer"),
            ("kafka_dlt-exception-stacktrace", b"at a\n\tat b"),
        ]));
        assert_eq!(letter.framework, Some("Spring"));
        let Origin { topic, partition, offset, group } = &letter.origin;
        assert_eq!(
            (topic.as_deref(), *partition, *offset),
            (Some("orders"), Some(3), Some(1 << 40))
        );
        assert_eq!(group.as_deref(), Some("billing"));
        assert_eq!(letter.death.message.as_deref(), Some("no such customer"));
        assert_eq!(letter.death.stacktrace.as_deref(), Some("at a\n\tat b"));
        assert_eq!(letter.death.details, [("cause", "java.lang.IllegalStateException".to_owned())]);
        assert_eq!(letter.own_headers().collect::<Vec<_>>(), [("tenant", Some(&b"acme"[..]))]);
    }

    #[test]
    fn what_a_retryable_topic_writes_is_read() {
        let letter = ForeignLetter::read(dead_record(&[
            ("kafka_original-topic", b"orders"),
            ("kafka_original-partition", &[0, 0, 0, 0]),
            ("kafka_original-offset", &[0, 0, 0, 0, 0, 0, 0, 9]),
            ("kafka_dlt-original-consumer-group", b"billing"),
            ("kafka_exception-fqcn", b"org.x.ListenerExecutionFailedException"),
            ("kafka_exception-message", b"listener failed"),
            ("retry_topic-attempts", &[0, 0, 0, 4]),
        ]));
        let Origin { topic, partition, offset, group } = &letter.origin;
        assert_eq!((topic.as_deref(), *partition, *offset), (Some("orders"), Some(0), Some(9)));
        assert_eq!(group.as_deref(), Some("billing"));
        assert_eq!(letter.death.message.as_deref(), Some("listener failed"));
        assert_eq!(letter.own_headers().count(), 0);
    }

    #[test]
    fn a_key_that_could_not_be_read_has_its_own_names() {
        let letter = ForeignLetter::read(dead_record(&[
            ("kafka_dlt-key-exception-fqcn", b"org.x.DeserializationException"),
            ("kafka_dlt-key-exception-message", b"no key"),
        ]));
        assert_eq!(letter.death.exception.as_deref(), Some("org.x.DeserializationException"));
        assert_eq!(letter.death.message.as_deref(), Some("no key"));
    }

    #[test]
    fn numbers_of_an_unknown_form_are_left_out() {
        assert_eq!(number(b"1234567"), Some(1_234_567));
        assert_eq!(number(b"odd"), None);
        assert_eq!(number(b""), None);
    }
}
