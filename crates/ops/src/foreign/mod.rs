//! Dead letters that other frameworks wrote to a Kafka topic. They are read, and never changed.

mod connect;
mod reading;
mod spring;
mod streams;

pub(crate) use reading::{at, newest};

use kafka::Record;

/// A dead letter on a topic, with the data of its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignLetter {
    /// The framework whose headers it has. `None` if it has no known headers.
    pub(crate) framework: Option<&'static str>,
    pub(crate) origin: Origin,
    pub(crate) death: Death,
    pub(crate) record: Record,
}

/// Original place of the record, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i64>,
    pub(crate) offset: Option<i64>,
    pub(crate) group: Option<String>,
}

/// Reason of the dead letter, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) exception: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) stacktrace: Option<String>,
    /// Data that only this framework provides, by name.
    pub(crate) details: Vec<(&'static str, String)>,
}

/// The headers of one framework.
struct Framework {
    name: &'static str,
    /// Prefixes of the names of its headers.
    prefixes: &'static [&'static str],
    read: fn(&Record) -> (Origin, Death),
}

const FRAMEWORKS: [Framework; 3] = [spring::SPRING, streams::STREAMS, connect::CONNECT];

impl ForeignLetter {
    /// Reads the headers of a record, of any known framework.
    pub(crate) fn read(record: Record) -> Self {
        let wrote = |it: &&Framework| record.headers.iter().any(|(name, _)| it.added(name));
        let framework = FRAMEWORKS.iter().find(wrote);
        let (origin, death) = framework.map(|it| (it.read)(&record)).unwrap_or_default();
        Self { framework: framework.map(|it| it.name), origin, death, record }
    }

    /// Returns the id shown to operators: partition and offset in its topic.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.record.partition, self.record.offset)
    }

    /// Returns the headers that the record had before a framework added its own.
    pub(crate) fn own_headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.record.headers.iter();
        headers.filter(|(name, _)| !FRAMEWORKS.iter().any(|it| it.added(name)))
    }
}

impl Framework {
    fn added(&self, header: &str) -> bool {
        self.prefixes.iter().any(|prefix| header.starts_with(prefix))
    }
}

/// Returns the text of the last header with that name, like Java's `lastHeader`. Bytes that are not
/// UTF-8 become U+FFFD.
fn last(record: &Record, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(record.headers.last(name)?).into_owned())
}

/// Returns the value of the first header with that name.
fn first<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().find(|(key, _)| *key == name)?.1
}

/// Returns those of the details that are present.
fn details(record: &Record, names: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    names.iter().filter_map(|(as_name, header)| Some((*as_name, last(record, header)?))).collect()
}

#[cfg(test)]
pub(crate) fn dead_record(headers: &[(&str, &[u8])]) -> Record {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.to_vec())));
    Record {
        topic: "orders.DLT".into(),
        partition: 2,
        offset: 17,
        timestamp: Some(1_790_000_000_123),
        key: Some(b"key".to_vec()),
        value: Some(b"{}".to_vec()),
        headers: headers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_the_headers_of_a_framework_is_shown_all_the_same() {
        let letter = ForeignLetter::read(dead_record(&[("ce_id", b"1"), ("odd", &[0xff])]));
        assert_eq!((letter.framework, letter.id().as_str()), (None, "2/17"));
        assert_eq!(letter.own_headers().count(), 2);
        assert_eq!((letter.origin, letter.death), Default::default());
    }
}
