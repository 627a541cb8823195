use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedHeaders, Header, Headers as _, OwnedHeaders};

/// Headers of a record in order, byte for byte; Kafka allows repeated names and null values.
///
/// All of them share two allocations. An event has about a dozen, and a consumer holds thousands of
/// records: with allocations of their own, the headers took more memory and time than the event.
///
/// ```
/// let mut headers = kafka::Headers::new();
/// headers.push("content-type", Some(b"application/json"));
/// headers.push("trace", None);
/// assert_eq!(headers.iter().next(), Some(("content-type", Some(&b"application/json"[..]))));
/// assert_eq!(headers.last("trace"), None);
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// Names and values, each name before its value.
    bytes: Vec<u8>,
    ends: Vec<HeaderEnds>,
}

/// Ends of the parts of a header. It begins at the end of the previous header.
#[derive(Clone, Copy, PartialEq, Eq)]
struct HeaderEnds {
    name_end: usize,
    /// `None` if the value is null.
    value_end: Option<usize>,
}

impl HeaderEnds {
    fn end(self) -> usize {
        self.value_end.unwrap_or(self.name_end)
    }
}

impl Headers {
    /// Creates empty headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates empty headers with room for this many, whose names and values have so many bytes
    /// together.
    pub(crate) fn with_capacity(headers: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(headers) }
    }

    /// Adds a header at the end. `None` is a null value.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        self.push_with_prefix("", name, value);
    }

    /// Does the same for a name with a prefix.
    pub(crate) fn push_with_prefix(&mut self, prefix: &str, name: &str, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(prefix.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        let name_end = self.bytes.len();
        let value_end = value.map(|value| {
            self.bytes.extend_from_slice(value);
            self.bytes.len()
        });
        self.ends.push(HeaderEnds { name_end, value_end });
    }

    /// Returns names and values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&[u8]>)> + Clone {
        (0..self.ends.len()).map(|index| self.at(index))
    }

    /// Returns the value of the last header of a name, as Java's `lastHeader`. Returns `None` if
    /// there is none, or its value is null.
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        self.last_of("", name)
    }

    /// Does the same for a name of two parts, without joining them.
    pub(crate) fn last_of(&self, prefix: &str, name: &str) -> Option<&[u8]> {
        // An event is decoded by a dozen of these searches, so they compare bytes, and check no
        // other name for being text.
        let is_it = |it: &[u8]| it.strip_prefix(prefix.as_bytes()) == Some(name.as_bytes());
        let found = (0..self.ends.len()).rev().find(|index| is_it(self.name_at(*index)))?;
        self.value_at(found)
    }

    /// Returns the number of headers.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn at(&self, index: usize) -> (&str, Option<&[u8]>) {
        // Names are only written by `push`, from text.
        let name = std::str::from_utf8(self.name_at(index)).unwrap_or_default();
        (name, self.value_at(index))
    }

    fn name_at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].end());
        &self.bytes[start..self.ends[index].name_end]
    }

    fn value_at(&self, index: usize) -> Option<&[u8]> {
        let HeaderEnds { name_end, value_end } = self.ends[index];
        Some(&self.bytes[name_end..value_end?])
    }

    /// Returns the size of their allocations, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<HeaderEnds>()
    }

    /// Copies headers out of the client's memory. The client panics on a name that is not UTF-8,
    /// which any producer may send; such a name becomes U+FFFD.
    pub(crate) fn copy(headers: &BorrowedHeaders) -> Self {
        let get = |index| {
            let header = catch_unwind(AssertUnwindSafe(|| headers.get(index)));
            header.map_or(("\u{fffd}", None), |header| (header.key, header.value))
        };
        let length =
            |(name, value): &(&str, Option<&[u8]>)| name.len() + value.map_or(0, <[u8]>::len);
        let all: Vec<_> = (0..headers.count()).map(get).collect();
        let mut copied = Self::with_capacity(all.len(), all.iter().map(length).sum());
        for (name, value) in all {
            copied.push(name, value);
        }
        copied
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let mut all = Self::new();
        for (name, value) in headers {
            all.push(name.as_ref(), value.as_ref().map(AsRef::as_ref));
        }
        all
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Converts headers to the client's type.
pub fn client_headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_and_tell_null_from_empty() {
        let given: [(&str, Option<&[u8]>); 5] = [
            ("a", Some(&[0xff, 0])),
            ("", Some(b"x")),
            ("a", None),
            ("b", Some(b"")),
            ("ä", Some(b"last")),
        ];
        let headers: Headers = given.into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), given);
        assert_eq!((headers.len(), headers.is_empty()), (5, false));
        assert_eq!(headers.last("a"), None, "the last one is null");
        assert_eq!(headers.last("b"), Some(&b""[..]));
        assert_eq!(headers.last("c"), None);
        let null: Headers = [("b", None::<&[u8]>)].into_iter().collect();
        let empty: Headers = [("b", Some(b""))].into_iter().collect();
        assert_ne!(null, empty);
    }

    #[test]
    fn headers_take_two_allocations_of_their_own_size() {
        let client = OwnedHeaders::new()
            .insert(Header { key: "ce_id", value: Some("1") })
            .insert(Header { key: "ce_type", value: None::<&str> });
        let copied = Headers::copy(client.as_borrowed());
        let expected: Headers = [("ce_id", Some(b"1")), ("ce_type", None)].into_iter().collect();
        assert_eq!(copied, expected);
        assert_eq!(copied.size(), "ce_id1ce_type".len() + 2 * size_of::<HeaderEnds>());
    }
}
