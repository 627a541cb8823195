//! The letters that a replay still has to attempt, in order.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::bulk;
use super::record::BYTES;
use crate::message::{KeyHash, hash_of_key};

/// Maximum bytes of records held at once, plus one record.
const MAX_BYTES: i64 = 640 * 1024;
/// The same for the rehearsed letters of one key, and their maximum number. If a key has more, the
/// later ones are rehearsed without the earlier ones.
const MAX_BYTES_OF_KEY: i64 = 8 * 1024 * 1024;
const MAX_OF_KEY: usize = 5_000;

/// A letter that is not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedLetter {
    pub(super) letter: i64,
    pub(super) key: KeyHash,
    bytes: i64,
    /// `true` if the letter was being attempted when a process ended.
    pub(super) begun: bool,
    /// `true` if the letter was attempted alone at that time.
    pub(super) alone: bool,
    /// From then on this replay must not attempt the letter.
    expires: Option<Instant>,
}

impl PlannedLetter {
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The letters of a replay that are not settled, the next one last; 56 bytes each.
pub(super) struct Plan {
    left: Vec<PlannedLetter>,
    /// Keys with a failed letter: their later letters are held.
    pub(super) held: HashSet<KeyHash>,
    whole_keys: bool,
}

#[derive(FromRow)]
struct Item {
    letter: i64,
    key: Option<Vec<u8>>,
    topic: String,
    partition: i32,
    bytes: i64,
    begun: bool,
    alone: bool,
    outcome: Option<String>,
    /// Seconds, by the database's clock, which also decides about a request.
    expires_in: Option<f64>,
}

impl Plan {
    /// Reads the plan. A rehearsal is ordered by key, so that letters of one key share a
    /// transaction.
    pub(super) async fn read(pool: &PgPool, replay: Uuid, rehearsal: bool) -> sqlx::Result<Self> {
        let mut tx = bulk::begin(pool).await?;
        let query = format!(
            "select item.letter, key, topic, partition, {BYTES} as bytes, item.begun, item.alone, item.outcome,
                    case when not force and not rehearsal
                         then extract(epoch from expires_at - clock_timestamp())::float8 end as expires_in
             from dead_letter_replay_item item join dead_letter it on it.seq = item.letter
             join dead_letter_replay replay on replay.id = item.replay
             where item.replay = $1 and (item.outcome is null or item.outcome in ('failed', 'held'))
             order by item.letter desc"
        );
        let items = sqlx::query_as::<_, Item>(sqlx::AssertSqlSafe(query));
        let mut items = items.bind(replay).fetch(&mut *tx);
        let (mut left, mut held) = (Vec::new(), HashSet::new());
        while let Some(item) = items.try_next().await? {
            let key = hash_of_key(item.key.as_deref(), &item.topic, item.partition);
            if item.outcome.is_some() {
                held.insert(key);
                continue;
            }
            let Item { letter, bytes, begun, alone, .. } = item;
            let expires = item.expires_in.map(|seconds| Instant::now() + lasting(seconds));
            left.push(PlannedLetter { letter, key, bytes, begun, alone, expires });
        }
        if rehearsal {
            left.sort_by_key(|it| (it.key, std::cmp::Reverse(it.letter)));
        }
        Ok(Self { left, held, whole_keys: rehearsal })
    }

    /// Takes the letters that were being attempted when a process ended, oldest first: each alone,
    /// or, in a rehearsal, all of a key together.
    pub(super) fn take_begun(&mut self) -> Vec<Vec<PlannedLetter>> {
        let mut begun: Vec<_> = self.left.extract_if(.., |it| it.begun).collect();
        begun.reverse();
        let together =
            |one: &PlannedLetter, next: &PlannedLetter| self.whole_keys && one.key == next.key;
        begun.chunk_by(together).map(<[_]>::to_vec).collect()
    }

    /// Takes up to `at_most` letters; in a rehearsal, all letters of a key together, regardless of
    /// their number.
    pub(super) fn take(&mut self, at_most: usize) -> Vec<PlannedLetter> {
        let (mut taken, mut bytes) = (Vec::<PlannedLetter>::new(), 0);
        while let Some(next) = self.left.last() {
            let fits = taken.len() < MAX_OF_KEY && bytes < MAX_BYTES_OF_KEY;
            let is_same_key = taken.last().is_some_and(|it| it.key == next.key);
            let completes_key = self.whole_keys && is_same_key && fits;
            let is_full = taken.len() >= at_most || bytes >= MAX_BYTES;
            if is_full && !completes_key {
                break;
            }
            bytes += next.bytes;
            taken.extend(self.left.pop());
        }
        taken
    }
}

/// Returns a time of some seconds, which may have passed or be very long.
fn lasting(seconds: f64) -> Duration {
    const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(letter: i64, key: KeyHash, bytes: i64) -> PlannedLetter {
        PlannedLetter { letter, key, bytes, begun: false, alone: false, expires: None }
    }

    fn letters(taken: &[PlannedLetter]) -> Vec<i64> {
        taken.iter().map(|it| it.letter).collect()
    }

    #[test]
    fn batches_are_bounded_in_number_and_bytes_and_hold_one_at_least() {
        let left =
            vec![planned(4, 1, 10), planned(3, 1, MAX_BYTES), planned(2, 2, 10), planned(1, 1, 10)];
        let mut plan = Plan { left, held: HashSet::new(), whole_keys: false };
        assert_eq!(letters(&plan.take(2)), [1, 2]);
        assert_eq!(letters(&plan.take(2)), [3], "it is large");
        assert_eq!(letters(&plan.take(2)), [4]);
        assert!(plan.take(2).is_empty());
    }

    #[test]
    fn a_rehearsal_keeps_keys_together() {
        let left = vec![planned(9, 3, 1), planned(3, 2, 1), planned(2, 2, 1), planned(1, 2, 1)];
        let mut plan = Plan { left, held: HashSet::new(), whole_keys: true };
        assert_eq!(letters(&plan.take(2)), [1, 2, 3]);
        assert_eq!(letters(&plan.take(2)), [9]);
    }
}
