use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Timestamp;
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, Header, Headers as _, Message, OwnedHeaders,
};

/// Headers in order, byte for byte; Kafka allows repeated names and null values.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// What an allocator adds to each allocation: its header, and rounding up.
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
            headers: message.headers().map(copy_headers).unwrap_or_default(),
        }
    }

    /// Returns the last header of a name whose value is text. A later one wins, as in Java's `lastHeader`.
    pub fn text_header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().rfind(|(key, _)| key == name)?.1.as_deref()?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the same for a name of two parts, without joining them.
    pub(crate) fn text_header_of(&self, prefix: &str, name: &str) -> Option<&str> {
        let is_it = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest == name);
        let value = self.headers.iter().rfind(|(key, _)| is_it(key))?.1.as_deref()?;
        std::str::from_utf8(value).ok()
    }

    /// Returns its approximate size in memory, in bytes. The headers' own structures are half the size of a small record.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |it| it.len() + ALLOCATION);
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            size_of::<(String, Option<Vec<u8>>)>() + name.len() + ALLOCATION + of(value)
        };
        let headers: usize = self.headers.iter().map(header).sum();
        of(&self.key) + of(&self.value) + headers + size_of::<Self>()
    }
}

/// Copies headers. The client panics on a name that is not UTF-8, which any producer may send; such a name becomes
/// U+FFFD.
fn copy_headers(headers: &BorrowedHeaders) -> Headers {
    let copy = |index| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.get(index)));
        header.map_or_else(
            |_| ("\u{fffd}".to_owned(), None),
            |header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)),
        )
    };
    (0..headers.count()).map(copy).collect()
}

/// Converts headers to the client's type.
pub fn client_headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value: value.as_deref() })
    })
}
