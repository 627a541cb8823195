//! Assignment of a group's member in Kafka's own serialization (`ConsumerProtocolAssignment`): a
//! version, then for each topic its name and partitions. Numbers are big-endian.

use std::collections::BTreeSet;

/// Returns the topics of an assignment. Of an invalid one, returns those that can be read.
pub(super) fn topics(assignment: &[u8]) -> BTreeSet<String> {
    let mut reader = Reader(assignment);
    let mut topics = BTreeSet::new();
    let _ = read(&mut reader, &mut topics);
    topics
}

fn read(reader: &mut Reader<'_>, topics: &mut BTreeSet<String>) -> Option<()> {
    reader.take(2)?;
    for _ in 0..reader.count()? {
        let length = u16::from_be_bytes(reader.take(2)?.try_into().ok()?);
        let topic = std::str::from_utf8(reader.take(length.into())?).ok()?;
        let partitions = reader.count()?;
        reader.take(partitions.checked_mul(4)?)?;
        topics.insert(topic.to_owned());
    }
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn count(&mut self) -> Option<usize> {
        let count = i32::from_be_bytes(self.take(4)?.try_into().ok()?);
        usize::try_from(count).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_an_assignment_are_read_and_nonsense_has_none() {
        let bytes =
            b"\0\x03\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x02bc\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(topics(bytes), ["a".to_owned(), "bc".to_owned()].into());
        assert!(topics(b"").is_empty() && topics(&[0xff; 40]).is_empty());
    }
}
