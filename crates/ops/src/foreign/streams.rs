//! Kafka Streams since 4.2 (KIP-1034). It writes `__streams.errors.*`, all as text. `exception` is
//! the result of Java's `toString()`, so class and message.

use kafka::Record;

use super::{Death, Framework, Origin, last};

pub(super) const STREAMS: Framework =
    Framework { name: "Kafka Streams", prefixes: &["__streams.errors."], read };

fn read(record: &Record) -> (Origin, Death) {
    let text = |name: &str| last(record, &format!("__streams.errors.{name}"));
    let number = |name| text(name)?.parse().ok();
    let origin = Origin {
        topic: text("topic"),
        partition: number("partition"),
        offset: number("offset"),
        group: None,
    };
    let class = |text: String| text.split(": ").next().unwrap_or_default().to_owned();
    let death = Death {
        exception: text("exception").map(class),
        message: text("message"),
        stacktrace: text("stacktrace"),
        details: Vec::new(),
    };
    (origin, death)
}

#[cfg(test)]
mod tests {
    use super::super::{ForeignLetter, dead_record};
    use super::*;

    #[test]
    fn what_the_exception_handlers_write_is_read() {
        let letter = ForeignLetter::read(dead_record(&[
            ("__streams.errors.exception", b"java.lang.IllegalArgumentException: count: -1"),
            ("__streams.errors.message", b"count: -1"),
            ("__streams.errors.stacktrace", b"java.lang.IllegalArgumentException\n\tat a"),
            ("__streams.errors.topic", b"clicks"),
            ("__streams.errors.partition", b"11"),
            ("__streams.errors.offset", b"9007199254740993"),
        ]));
        assert_eq!(letter.framework, Some("Kafka Streams"));
        let Origin { topic, partition, offset, .. } = &letter.origin;
        let offset = (topic.as_deref(), *partition, *offset);
        assert_eq!(offset, (Some("clicks"), Some(11), Some(9_007_199_254_740_993)));
        let exception = letter.death.exception.as_deref();
        assert_eq!(exception, Some("java.lang.IllegalArgumentException"));
        assert_eq!(letter.death.message.as_deref(), Some("count: -1"));
        assert_eq!(letter.own_headers().count(), 0);
    }

    #[test]
    fn an_exception_without_a_message_has_a_null_header() {
        let mut record =
            dead_record(&[("__streams.errors.exception", b"java.lang.NullPointerException")]);
        record.headers.push("__streams.errors.message", None);
        let (_, death) = read(&record);
        assert_eq!((death.message, death.stacktrace), (None, None));
    }
}
