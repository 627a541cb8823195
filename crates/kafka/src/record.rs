use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Message};

use crate::Headers;

/// Overhead of an allocation in bytes: the allocator's header, and rounding up.
const ALLOCATION: usize = 16;

/// An owned record. The topic is the name on the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Name on the cluster, prefix included.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, UTC. `None` if the broker set none.
    pub timestamp: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value. `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Headers,
}

impl Record {
    /// Copies a record out of the client's memory.
    pub fn from_message(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: match message.timestamp() {
                Timestamp::NotAvailable => None,
                Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => Some(at),
            },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(Headers::copy).unwrap_or_default(),
        }
    }

    /// Returns the last header of a name whose value is text. A later one wins, as in Java's
    /// `lastHeader`.
    pub fn text_header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.last(name)?).ok()
    }

    /// Returns the same for a name of two parts, without joining them.
    pub(crate) fn text_header_of(&self, prefix: &str, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.last_of(prefix, name)?).ok()
    }

    /// Returns its approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |it| it.len() + ALLOCATION);
        let headers = self.headers.size() + 2 * ALLOCATION;
        self.topic.len()
            + ALLOCATION
            + of(&self.key)
            + of(&self.value)
            + headers
            + size_of::<Self>()
    }
}
