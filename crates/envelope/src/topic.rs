use std::borrow::Cow;
use std::time::Duration;

/// Default maximum size of a record: Kafka's own default.
const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// Configuration of a topic by its owner. Like the schemas, it belongs to the events' interface:
/// the publisher owns the topic, and only the owner creates it.
///
/// ```
/// use std::time::Duration;
///
/// use envelope::TopicSpec;
///
/// const PARCELS: TopicSpec =
///     TopicSpec::new("parcel.shipped").partitions(12).retention(Duration::from_hours(7 * 24));
/// assert_eq!(PARCELS.name, "parcel.shipped");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicSpec {
    /// Name, without the prefix of an installation.
    pub name: Cow<'static, str>,
    /// Number of partitions, which limits the instances of a consumer. Raising it later moves keys
    /// to other partitions. Default 6.
    pub partitions: i32,
    /// Retention of records. `None` keeps them for ever. Default 30 days.
    pub retention: Option<Duration>,
    /// Maximum size of a record, in bytes. Default 1 MiB.
    pub max_record_bytes: usize,
}

impl TopicSpec {
    /// Creates a topic of 6 partitions that keeps records of up to 1 MiB for 30 days.
    pub const fn new(name: &'static str) -> Self {
        Self::with_name(Cow::Borrowed(name))
    }

    /// Creates the same topic with a name that is built at run time.
    pub const fn with_name(name: Cow<'static, str>) -> Self {
        Self {
            name,
            partitions: 6,
            retention: Some(Duration::from_hours(30 * 24)),
            max_record_bytes: MAX_RECORD_BYTES,
        }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub const fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the retention of records.
    #[must_use]
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Keeps records for ever.
    #[must_use]
    pub const fn kept_for_ever(mut self) -> Self {
        self.retention = None;
        self
    }

    /// Sets the maximum size of a record, in bytes.
    #[must_use]
    pub const fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes;
        self
    }
}
