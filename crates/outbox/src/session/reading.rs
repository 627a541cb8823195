use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use super::admission::Verdict;
use super::{PACE, POLL, STATEMENT, Scope, Session, SessionError, WORTHWHILE, within};
use crate::aside::Aside;
use crate::row::Row;
use crate::scan::{self, LaneHead};
use crate::topic::TopicId;

/// How long the horizon may take to be found. A transaction that holds it for longer makes the scan begin at the start.
const HORIZON: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The search for what was overlooked is at least so far apart, and takes at most a 50th of the time.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_SHARE: u32 = 50;
/// The limit of the first search: a backup's snapshot may keep millions of dead rows that are passed over once.
const FIRST_SWEEP: Duration = Duration::from_mins(5);
/// Most rows that the scan of new rows passes over one by one.
const PASSED: usize = 10_000;

impl Session<'_> {
    /// Finds the id from which on rows are new; what is below is read lane by lane.
    pub(super) async fn find_horizon(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + HORIZON;
        let mut goal = None;
        while Instant::now() < deadline {
            within(self.horizon.look(self.shards.session())).await??;
            let Some(assigned) = self.horizon.assigned() else {
                tracing::warn!(
                    "no right to read the outbox's sequence, so each read begins at the oldest event"
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
        !self.shards.owned().is_empty() && self.flights.free() >= WORTHWHILE
    }

    /// When new rows are read next.
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
        let known = self.flights.above(self.after).chain(self.passed.keys().copied());
        let known = scan::except(known, &self.published, self.after);
        // Of the time before the statement: later, rows may have become visible that it does not see.
        let proven = self.horizon.proven();
        let shards = self.shards.owned().to_vec();
        let (free, except) = (self.flights.free(), (&*aside, &*known));
        let read = scan::new_rows(
            self.shards.session(),
            &self.published,
            self.after,
            &shards,
            except,
            free,
        );
        let page = within(read).await?;
        self.deleted();
        let selected = SystemTime::now();
        for row in &page.rows {
            let row = Row::of(row)?;
            self.seen = self.seen.max(row.id);
            if self.offer(&row, &Scope::New, selected) != Verdict::Sent {
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

    /// Leaves the topic aside of which the most rows are passed over one by one, if they are many: each read takes them all
    /// along.
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

    /// Leaves all of a topic aside, from the new rows on.
    pub(super) fn leave_topic(&mut self, topic: TopicId) -> &mut Aside {
        let (owned, after) = (self.shards.owned(), self.after);
        self.topics.get_mut(topic).aside.get_or_insert_with(|| Aside::of(owned, after))
    }

    /// Finds the rows of shards that were taken, which are not new.
    pub(super) async fn take_over(&mut self, shards: &[i16]) -> Result<(), SessionError> {
        let after = self.after;
        for (_, topic) in self.topics.iter_mut() {
            let aside = topic.aside.iter_mut();
            aside.for_each(|aside| shards.iter().for_each(|shard| aside.leave(*shard, after + 1)));
        }
        within(self.shards.allow_statements(FIRST_SWEEP)).await?;
        let under_way: Vec<_> = self.flights.ids().collect();
        let heads = scan::heads(self.shards.session(), shards, &under_way);
        let heads = pg::within(FIRST_SWEEP + STATEMENT, heads).await?;
        within(self.shards.limit_statements()).await?;
        for head in heads.into_iter().filter(|head| head.id <= after) {
            let topic = self.topics.id(&head.topic);
            self.leave_topic(topic).leave(head.shard, head.id);
        }
        self.next_sweep = Instant::now() + SWEEP;
        Ok(())
    }

    /// Searches for rows that nothing accounts for: written with ids of their own by hand, for instance. So what is
    /// remembered of the outbox is never what a row's publication depends on.
    pub(super) async fn sweep(&mut self) -> Result<(), SessionError> {
        let began = Instant::now();
        if began < self.next_sweep || self.shards.owned().is_empty() {
            return Ok(());
        }
        let shards = self.shards.owned().to_vec();
        // The rows that are deleted with the next statement are not overlooked.
        self.delete().await?;
        let under_way: Vec<_> = self.flights.ids().collect();
        let heads = within(scan::heads(self.shards.session(), &shards, &under_way)).await?;
        self.next_sweep = began + SWEEP.max(began.elapsed() * SWEEP_SHARE);
        self.forget_topics_without(&heads);
        for head in heads {
            let topic = self.topics.id(&head.topic);
            let is_known = head.id > self.after
                || self.topics.get(topic).covers(head.shard, head.id, &head.key);
            if !is_known {
                tracing::warn!(
                    topic = head.topic,
                    id = head.id,
                    "found events with ids of the past"
                );
                self.leave_topic(topic).leave(head.shard, head.id);
            }
        }
        Ok(())
    }

    /// Ends the pauses of topics of which no row waits any more: somebody deleted what could not be sent.
    fn forget_topics_without(&mut self, heads: &[LaneHead]) {
        let waiting: HashSet<_> = heads.iter().map(|head| &*head.topic).collect();
        for (id, topic) in self.topics.iter_mut() {
            if !waiting.contains(&*topic.name) && self.flights.of_topic(id) == 0 {
                topic.forget_waiting();
                self.has_new = true; // Among what it was left with, some may become visible later.
            }
        }
    }
}
