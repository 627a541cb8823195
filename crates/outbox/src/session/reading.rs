use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::PgRow;
use tokio::time::sleep;

use super::admission::Offered;
use super::{PACE, POLL, Scope, Session, SessionError, WORTHWHILE, unless_locked, within};
use crate::aside::Aside;
use crate::row::Row;
use crate::scan::{self, NewRows};
use crate::topic::TopicId;

/// Maximum wait for the horizon at the start. If a transaction holds it for longer, the scan starts
/// at the first row.
const HORIZON: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Maximum number of rows that the scan of new rows skips one by one.
const PASSED: usize = 10_000;
/// Maximum number of locked published rows; beyond that nothing more is read, because the table is
/// probably locked.
const MOST_LOCKED: usize = 10_000;

impl Session<'_> {
    /// Determines the id from which on rows are new; earlier rows are read lane by lane.
    pub(super) async fn find_horizon(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + HORIZON;
        let mut goal = None;
        while Instant::now() < deadline {
            within(self.horizon.look(self.shards.session())).await??;
            let Some(assigned) = self.horizon.assigned() else {
                tracing::warn!(
                    "no permission to read the outbox's sequence, each read starts at the oldest event"
                );
                break;
            };
            if self.horizon.proven() >= *goal.get_or_insert(assigned) {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        self.after = self.horizon.proven();
        Ok(())
    }

    pub(super) fn can_read(&self) -> bool {
        !self.shards.owned().is_empty()
            && self.flights.free() >= WORTHWHILE
            && self.locked.len() < MOST_LOCKED
    }

    /// Returns the time of the next read of new rows.
    pub(super) fn next_new(&self, now: Instant) -> Instant {
        match (self.has_new, self.flights.is_empty()) {
            (true, true) => now,
            (true, false) => self.last_new + PACE,
            (false, _) => self.next_poll,
        }
    }

    pub(super) async fn read(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.can_read() && now >= self.next_new(now).min(self.next_poll) {
            self.read_new(now).await?;
        }
        if self.can_read() && now >= self.next_lanes {
            self.read_lanes(now).await?;
        }
        Ok(())
    }

    /// Reads new rows, in the order of their ids.
    pub(super) async fn read_new(&mut self, now: Instant) -> Result<(), SessionError> {
        (self.last_new, self.next_poll) = (now, now + POLL);
        let aside = self.topics.iter().filter(|(_, topic)| topic.aside.is_some());
        let aside: Vec<_> = aside.map(|(_, topic)| topic.name.to_string()).collect();
        let mut known = self.known_above(self.after);
        known.extend(self.passed.keys());
        // Taken before the statement, whose snapshot does not contain rows that become visible
        // later.
        let proven = self.horizon.proven();
        let shards = self.shards.owned().to_vec();
        let free = self.flights.free();
        let Self { shards: session, published, sender, .. } = self;
        let wanted = NewRows {
            published,
            after: self.after,
            shards: &shards,
            except_topics: &aside,
            except_ids: &known,
            free,
            size: self.row_size,
        };
        // Nothing is sent before the statement has succeeded, and then all rows at once, so that
        // the client sends them in few requests.
        let mut prepared = Vec::new();
        let mut selected = None;
        let prepare = |row: &PgRow| {
            let selected = *selected.get_or_insert_with(SystemTime::now);
            prepared.push(sender.prepare(&Row::of(row)?, selected));
            Ok(())
        };
        let read = scan::new_rows(session.session(), wanted, prepare);
        let Some(page) = unless_locked(within(read).await)? else {
            self.put_off_deletes();
            return Ok(());
        };
        self.deleted();
        self.row_size = page.size.unwrap_or(self.row_size);
        let selected = selected.unwrap_or_else(SystemTime::now);
        for (row, prepared) in page.rows.iter().zip(prepared) {
            let row = Row::of(row)?;
            self.seen = self.seen.max(row.id);
            if self.offer(&row, prepared, &Scope::New, selected) != Offered::Sent {
                let topic = self.topics.id(row.topic);
                self.passed.insert(row.id, topic);
            }
        }
        let covered = page.covered.first().copied().flatten();
        self.has_new = covered.is_some();
        self.after = self.after.max(proven.min(covered.unwrap_or(i64::MAX)));
        self.passed = self.passed.split_off(&(self.after + 1));
        self.bound_passed();
        Ok(())
    }

    /// Returns the ids above this one that must not be read again.
    pub(super) fn known_above(&self, after: i64) -> Vec<i64> {
        // The snapshot of a statement still contains the rows that it deletes.
        let deleted = self.published.iter().chain(&self.locked).copied().filter(|id| *id > after);
        self.flights.above(after).chain(deleted).collect()
    }

    /// Leaves the topic with the most skipped rows aside, if there are many, because each read has
    /// to exclude them all.
    fn bound_passed(&mut self) {
        if self.passed.len() <= PASSED {
            return;
        }
        let mut counts = BTreeMap::<TopicId, usize>::new();
        for topic in self.passed.values() {
            *counts.entry(*topic).or_default() += 1;
        }
        if let Some((topic, _)) = counts.into_iter().max_by_key(|(_, count)| *count) {
            self.leave_topic(topic);
            self.passed.retain(|_, other| *other != topic);
        }
    }

    /// Leaves a whole topic aside, from the new rows on.
    pub(super) fn leave_topic(&mut self, topic: TopicId) -> &mut Aside {
        let (owned, after) = (self.shards.owned(), self.after);
        self.topics.get_mut(topic).aside.get_or_insert_with(|| Aside::of(owned, after))
    }
}
