use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Timestamp;
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, Header, Headers as _, Message, OwnedHeaders,
};

/// Headers in their order, byte for byte; Kafka allows a name more than once and a null value.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record as it lies in Kafka, owned. The topic is its name on the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Name on the cluster, prefix included.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, UTC; none where the broker gave none.
    pub timestamp: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; none is a tombstone.
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

    /// The last header of that name with a value that is text. A later one wins, as in Java's `lastHeader`.
    pub fn text_header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().rfind(|(key, _)| key == name)?.1.as_deref()?;
        std::str::from_utf8(value).ok()
    }

    /// Does the same for a name of two parts, which need not be put together.
    pub(crate) fn text_header_of(&self, prefix: &str, name: &str) -> Option<&str> {
        let is_it = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest == name);
        let value = self.headers.iter().rfind(|(key, _)| is_it(key))?.1.as_deref()?;
        std::str::from_utf8(value).ok()
    }

    /// Roughly what it takes in memory, in bytes.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + of(value)).sum();
        of(&self.key) + of(&self.value) + headers + size_of::<Self>()
    }
}

/// The client panics on a name that is not UTF-8, which anybody may send: such a header stands as U+FFFD.
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

/// Headers as the client takes them.
pub fn client_headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value: value.as_deref() })
    })
}
