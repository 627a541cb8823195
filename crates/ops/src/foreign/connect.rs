//! Kafka Connect's sink connectors with `errors.deadletterqueue.context.headers.enable` (KIP-298).
//! They write `__connect.errors.*`, all as text.

use kafka::Record;

use super::{Death, Framework, Origin, details, last};

pub(super) const CONNECT: Framework =
    Framework { name: "Kafka Connect", prefixes: &["__connect.errors."], read };

fn read(record: &Record) -> (Origin, Death) {
    let text = |name: &str| last(record, &format!("__connect.errors.{name}"));
    let number = |name| text(name)?.parse().ok();
    let origin = Origin {
        topic: text("topic"),
        partition: number("partition"),
        offset: number("offset"),
        // The default group of a sink connector; its configuration may set another.
        group: text("connector.name").map(|connector| format!("connect-{connector}")),
    };
    let death = Death {
        exception: text("exception.class.name"),
        message: text("exception.message"),
        stacktrace: text("exception.stacktrace"),
        details: details(
            record,
            &[
                ("connector", "__connect.errors.connector.name"),
                ("task", "__connect.errors.task.id"),
                ("stage", "__connect.errors.stage"),
                ("class", "__connect.errors.class.name"),
            ],
        ),
    };
    (origin, death)
}

#[cfg(test)]
mod tests {
    use super::super::{ForeignLetter, dead_record};

    #[test]
    fn what_a_sink_writes_is_read() {
        let letter = ForeignLetter::read(dead_record(&[
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"0"),
            ("__connect.errors.offset", b"42"),
            ("__connect.errors.connector.name", b"s3-sink"),
            ("__connect.errors.task.id", b"1"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
            ("__connect.errors.exception.class.name", b"org.x.DataException"),
            ("__connect.errors.exception.message", b"not JSON"),
            ("__connect.errors.exception.stacktrace", b"org.x.DataException\n\tat a"),
        ]));
        assert_eq!(letter.framework, Some("Kafka Connect"));
        assert_eq!(letter.origin.topic.as_deref(), Some("orders"));
        assert_eq!((letter.origin.partition, letter.origin.offset), (Some(0), Some(42)));
        assert_eq!(letter.origin.group.as_deref(), Some("connect-s3-sink"));
        assert_eq!(letter.death.exception.as_deref(), Some("org.x.DataException"));
        assert_eq!(letter.death.message.as_deref(), Some("not JSON"));
        let stage = letter.death.details.iter().find(|(name, _)| *name == "stage");
        assert_eq!(stage.map(|(_, value)| &**value), Some("VALUE_CONVERTER"));
        assert_eq!(letter.own_headers().count(), 0);
    }
}
