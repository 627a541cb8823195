use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use super::admission::Verdict;
use super::{PACE, POLL, STATEMENT, Scope, Session, SessionError, WORTHWHILE, within};
use crate::aside::Aside;
use crate::row::Row;
use crate::scan;
use crate::topic::TopicId;

/// How long the horizon may take to be found. A transaction that holds it for longer makes the scan begin at the start.
const HORIZON: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The search for what was overlooked is at least so far apart, and takes at most a 50th of the time.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_SHARE: u32 = 50;
/// The limit of the first search: a backup's snapshot may keep millions of dead rows that are passed over once.
const FIRST_SWEEP: Duration = Duration::from_mins(5);

impl Session<'_> {
    /// Finds the id from which on rows are new; what is below is read lane by lane.
    pub(super) async fn find_horizon(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + HORIZON;
        let mut goal = None;
        while Instant::now() < deadline {
            within(self.horizon.look(self.shards.session())).await??;
            let Some(assigned) = self.horizon.assigned() else { break };
            if self.horizon.proven() >= *goal.get_or_insert(assigned) {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        self.after = self.horizon.proven();
        Ok(())
    }

    pub(super) fn can_read(&self) -> bool {
        !self.shards.owned().is_empty() && !self.client_is_full && self.flights.free() >= WORTHWHILE
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
    async fn read_new(&mut self, now: Instant) -> Result<(), SessionError> {
        (self.last_new, self.next_poll) = (now, now + POLL);
        let aside = self.topics.iter().filter(|(_, topic)| topic.aside.is_some());
        let aside: Vec<_> = aside.map(|(_, topic)| topic.name.to_string()).collect();
        let known = self.flights.above(self.after).chain(self.passed.iter().copied());
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
                self.passed.insert(row.id);
            }
        }
        let covered = page.covered.first().copied().flatten();
        self.has_new = covered.is_some();
        self.after = self.after.max(proven.min(covered.unwrap_or(i64::MAX)));
        self.passed = self.passed.split_off(&(self.after + 1));
        Ok(())
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
        let limit = format!("set statement_timeout = {}", FIRST_SWEEP.as_millis());
        within(sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(self.shards.session())).await?;
        let heads = scan::heads(self.shards.session(), shards);
        let heads = pg::within(FIRST_SWEEP + STATEMENT, heads).await?;
        within(sqlx::raw_sql("reset statement_timeout").execute(self.shards.session())).await?;
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
        let heads = within(scan::heads(self.shards.session(), &shards)).await?;
        self.next_sweep = began + SWEEP.max(began.elapsed() * SWEEP_SHARE);
        for head in heads {
            let topic = self.topics.id(&head.topic);
            let is_known = head.id > self.after
                || self.flights.contains(head.id)
                || self.topics.get(topic).covers(head.shard, head.id);
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
}
