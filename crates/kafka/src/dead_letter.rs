//! Dead letters carry the original record and Spring Kafka's headers, so that tools for these can
//! read them
//! (<https://docs.spring.io/spring-kafka/reference/kafka/annotation-error-handling.html#dead-letters>).

use envelope::TopicSpec;

use crate::{Headers, Record};

const PREFIX: &str = "kafka_dlt-";
const TOPIC: &str = "kafka_dlt-original-topic";
const PARTITION: &str = "kafka_dlt-original-partition";
const OFFSET: &str = "kafka_dlt-original-offset";
const TIMESTAMP: &str = "kafka_dlt-original-timestamp";
const GROUP: &str = "kafka_dlt-original-consumer-group";
const EXCEPTION: &str = "kafka_dlt-exception-fqcn";
const MESSAGE: &str = "kafka_dlt-exception-message";
const STACKTRACE: &str = "kafka_dlt-exception-stacktrace";

/// Header with the id of the row that a dead letter on a topic is a copy of; not one of Spring's.
pub const LETTER_ID: &str = "kafka_dlt-letter-id";

/// Maximum length of a text, so that a dead letter always fits into its topic.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Record limit of dead-letter topics: a dead letter has additional headers, and must hold a record
/// of a topic with Kafka's default limit.
const MAX_RECORD_BYTES: usize = 2 * 1024 * 1024;

/// Returns the topic of a group's dead letters, which is kept for ever. The group owns it.
pub fn dead_letter_topic(group: &str) -> TopicSpec {
    TopicSpec::with_name(format!("{group}.dlq").into())
        .partitions(1)
        .kept_for_ever()
        .max_record_bytes(MAX_RECORD_BYTES)
}

/// Original position of a record. Together with the group it identifies a dead letter, also across
/// replays.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinates {
    /// Name on the cluster, prefix included.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, UTC.
    pub timestamp: i64,
}

impl Coordinates {
    /// Returns the position of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp.unwrap_or(-1),
        }
    }

    /// Returns the original position in the headers of a dead letter, or `None` without them.
    pub fn carried_by(record: &Record) -> Option<Self> {
        let bytes = |name| record.headers.last(name);
        Some(Self {
            topic: record.text_header(TOPIC)?.to_owned(),
            partition: i32::from_be_bytes(bytes(PARTITION)?.try_into().ok()?),
            offset: i64::from_be_bytes(bytes(OFFSET)?.try_into().ok()?),
            timestamp: i64::from_be_bytes(bytes(TIMESTAMP)?.try_into().ok()?),
        })
    }
}

/// Why a record was dead-lettered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// Name of the error's type.
    pub exception: String,
    /// Message of the error.
    pub message: String,
    /// Chain of the error's sources, one per line.
    pub stacktrace: String,
}

/// The dead-letter headers of a record that a group could not process, as written to and read from
/// `<group>.dlq`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// Original position.
    pub origin: Coordinates,
    /// Consumer group (prefix included) that could not process it.
    pub group: String,
    /// Why.
    pub reason: Reason,
}

impl DeadLetter {
    /// Returns the headers of the dead letter: the record's own byte for byte, and Spring's.
    /// Spring's headers of an earlier dead letter are replaced, so that replays do not accumulate
    /// them.
    pub fn headers(&self, record: &Record) -> Headers {
        let own = record.headers.iter().filter(|(name, _)| !is_dead_letter_header(name));
        let mut headers: Headers = own.collect();
        let mut add = |name: &str, value: &[u8]| headers.push(name, Some(value));
        add(TOPIC, self.origin.topic.as_bytes());
        add(PARTITION, &self.origin.partition.to_be_bytes());
        add(OFFSET, &self.origin.offset.to_be_bytes());
        add(TIMESTAMP, &self.origin.timestamp.to_be_bytes());
        add(GROUP, self.group.as_bytes());
        add(EXCEPTION, cut(&self.reason.exception).as_bytes());
        add(MESSAGE, cut(&self.reason.message).as_bytes());
        add(STACKTRACE, cut(&self.reason.stacktrace).as_bytes());
        headers
    }

    /// Reads the headers of a dead letter. Returns `None` if the record is not a dead letter.
    pub fn read(record: &Record) -> Option<Self> {
        let text = |name| record.text_header(name).unwrap_or_default().to_owned();
        Some(Self {
            origin: Coordinates::carried_by(record)?,
            group: record.text_header(GROUP)?.to_owned(),
            reason: Reason {
                exception: text(EXCEPTION),
                message: text(MESSAGE),
                stacktrace: text(STACKTRACE),
            },
        })
    }
}

/// Returns whether a header is a dead-letter header, and not one of the record's own.
pub fn is_dead_letter_header(header: &str) -> bool {
    header.starts_with(PREFIX)
}

/// Returns at most [`MAX_TEXT_BYTES`] of the text, cut between characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: Headers) -> Record {
        Record {
            topic: "t-parcel.shipped".into(),
            partition: 3,
            offset: 1 << 40,
            timestamp: Some(1_790_000_000_123),
            key: Some(b"key".to_vec()),
            value: None,
            headers,
        }
    }

    fn dead(record: &Record, message: &str) -> DeadLetter {
        DeadLetter {
            origin: Coordinates::carried_by(record).unwrap_or_else(|| Coordinates::of(record)),
            group: "t-accounting".into(),
            reason: Reason {
                exception: "accounting::Broken".into(),
                message: message.into(),
                stacktrace: String::new(),
            },
        }
    }

    #[test]
    fn headers_stay_byte_for_byte_and_numbers_are_big_endian() {
        let odd: [(&str, Option<&[u8]>); 3] =
            [("a", Some(&[0xff, 0x00])), ("a", None), ("", Some(b""))];
        let original = record(odd.into_iter().collect());
        let headers = dead(&original, "no").headers(&original);
        assert_eq!(headers.iter().take(3).collect::<Vec<_>>(), odd);
        assert_eq!(headers.last(PARTITION), Some(&[0, 0, 0, 3][..]));
        assert_eq!(headers.last(OFFSET), Some(&[0, 0, 1, 0, 0, 0, 0, 0][..]));
        assert_eq!(headers.last(TIMESTAMP).map(<[u8]>::len), Some(8));
    }

    #[test]
    fn what_is_written_is_read_and_a_second_death_keeps_the_identity() {
        let original = record(Headers::new());
        let first = dead(&original, "first");
        let replayed = Record {
            topic: "t-accounting.retry".into(),
            offset: 7,
            ..record(first.headers(&original))
        };
        assert_eq!(DeadLetter::read(&replayed), Some(first.clone()));

        let second = dead(&replayed, "second");
        assert_eq!(second.origin, first.origin);
        assert_eq!(second.headers(&replayed).len(), first.headers(&original).len());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let original = record(Headers::new());
        let headers = dead(&original, &"ä".repeat(MAX_TEXT_BYTES)).headers(&original);
        let cut = record(headers).text_header(MESSAGE).map(str::len);
        assert_eq!(cut, Some(MAX_TEXT_BYTES));
    }

    #[test]
    fn a_record_without_the_headers_is_no_dead_letter() {
        assert_eq!(DeadLetter::read(&record(Headers::new())), None);
        let odd = [(TOPIC, Some(&b"t"[..])), (PARTITION, Some(&[1]))].into_iter().collect();
        assert_eq!(Coordinates::carried_by(&record(odd)), None);
    }
}
