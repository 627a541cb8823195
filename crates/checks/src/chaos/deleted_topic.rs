//! Keeps the records of a topic that a fault deletes.

use std::collections::HashMap;

use kafka::{Record, Settings};

use super::Error;
use super::topics::{self, Offsets, Progress};

/// Records of a deleted topic, and the offsets of billing's group in it.
///
/// If the topic is created again under the same name, its partitions and offsets stand for other
/// records. So these records and offsets are entered under a separate name.
#[derive(Debug)]
pub(crate) struct DeletedTopic {
    name: &'static str,
    records: Vec<Record>,
    committed: Offsets,
}

impl DeletedTopic {
    /// Reads the topic before it is deleted.
    pub(crate) fn read(settings: &Settings, name: &'static str) -> Result<Self, Error> {
        let renamed = format!("{name} (deleted)");
        let mut records = topics::read_all(settings, name)?;
        for record in &mut records {
            record.topic.clone_from(&renamed);
        }
        let Progress { committed, .. } = topics::progress(settings)?;
        let of_topic = committed.into_iter().filter(|((topic, _), _)| topic == name);
        let committed = of_topic.map(|((_, partition), at)| ((renamed.clone(), partition), at));
        Ok(Self { name, records, committed: committed.collect() })
    }

    /// Returns the records by partition, in the order of their offsets.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Enters the records before those of the topic's successor, and the group's offsets.
    pub(crate) fn enter(
        &self,
        records: &mut HashMap<&'static str, Vec<Record>>,
        committed: &mut Offsets,
    ) {
        records.entry(self.name).or_default().splice(..0, self.records.iter().cloned());
        committed.extend(self.committed.clone());
    }
}
