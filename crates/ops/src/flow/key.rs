//! Keys that identify the entries of a flow across queries.

use super::Node;
use super::entry::Content;

/// The parameters of FNV-1a with 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

impl Node {
    /// Returns the key of the entry.
    pub(crate) fn key(&self) -> String {
        let service = self.service.as_deref().unwrap_or_default();
        match &self.content {
            Content::Step(it) => format!("step {service} {}", it.step.json),
            Content::Event(it) => format!("event {}", it.id),
            Content::Delivery(it) => format!("delivery {:?} {}", it.event_id, it.group),
            Content::Letter(row) => format!("letter {service} {:?}", row.open.letter_id),
            Content::Replay(it) => {
                let row = it.row.as_ref().map(|it| (&it.open.replay_id, &it.open.letter_id));
                let step = it.steps.first().map(|it| (&it.step.replay_id, &it.step.event_id));
                format!("replay {service} {:?}", row.or(step))
            }
            Content::Job(it) => format!("job {service} {}", it.id),
            Content::Open(row) => format!("open {service} {}", row.open.json),
        }
    }

    /// Returns a hash of the key for addresses, because a key may contain any published text.
    pub(crate) fn short_key(&self) -> String {
        let hash = self
            .key()
            .bytes()
            .fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        format!("{hash:016x}")
    }
}
