use std::collections::HashSet;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::task::AbortOnDropHandle;

use super::{Session, SessionError, unless_locked, within};
use crate::scan::{self, LaneHead};
use crate::topic::TopicId;

/// The limit of a search on the server, and here. Dead rows that the snapshot of a backup keeps are walked over.
const LIMIT: Duration = Duration::from_mins(5);
const GRACE: Duration = Duration::from_secs(10);
/// Searches for what was overlooked are at least so far apart, and take at most a 50th of the time if they are slow.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_SHARE: u32 = 50;
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Searches for the first row of each lane, on a connection of its own, so that nothing waits for it.
pub(crate) struct Searcher {
    database: PgConnectOptions,
    pub(super) limit: Duration,
    session: Option<PgConnection>,
    pub(super) running: Option<Search>,
    /// What the running search has found.
    found: Option<Found>,
    /// When what was overlooked is searched for next.
    pub(super) next_sweep: Instant,
    is_failing: bool,
}

/// A search that has begun.
pub(super) struct Search {
    task: AbortOnDropHandle<Found>,
    began: Instant,
    shards: Vec<i16>,
    /// The shards are fresh: what waits in them is not known, rather than overlooked.
    is_of_fresh: bool,
    /// Rows of the owned shards up to this id were accounted for.
    after: i64,
    /// Topics of which something was under way, which the search passes over.
    busy: HashSet<TopicId>,
}

/// What a search found, and its connection if that can be used again.
#[derive(Default)]
struct Found {
    session: Option<PgConnection>,
    heads: Option<Vec<LaneHead>>,
}

impl Searcher {
    pub(crate) fn new(database: PgConnectOptions) -> Self {
        Self {
            database,
            limit: LIMIT,
            session: None,
            running: None,
            found: None,
            next_sweep: Instant::now(),
            is_failing: false,
        }
    }

    #[cfg(test)]
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Waits for the end of the search, if there is one.
    pub(super) async fn wait(&mut self) {
        match &mut self.running {
            Some(search) if self.found.is_none() => {
                // It does not panic.
                self.found = Some((&mut search.task).await.unwrap_or_default());
            }
            _ => std::future::pending().await,
        }
    }

    fn begin(&mut self, shards: Vec<i16>, except: Vec<i64>) -> AbortOnDropHandle<Found> {
        self.found = None;
        let (database, limit, session) = (self.database.clone(), self.limit, self.session.take());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let found = pg::within(limit + GRACE, search(database, limit, session, shards, except));
            match found.await {
                Ok(found) => found,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "search of the outbox failed");
                    Found::default()
                }
            }
        }))
    }

    /// Returns the search that has ended, and what it found if it did not fail.
    fn take_ended(&mut self) -> Option<(Search, Option<Vec<LaneHead>>)> {
        let found = self.found.take()?;
        let search = self.running.take()?;
        self.session = found.session;
        let rest = search.began.elapsed() * SWEEP_SHARE;
        self.next_sweep = search.began + rest.clamp(SWEEP, LONGEST_REST);
        let is_failing = found.heads.is_none();
        if is_failing && !std::mem::replace(&mut self.is_failing, is_failing) {
            tracing::warn!(shards = ?search.shards, "search of the outbox failed, retrying");
        }
        self.is_failing = is_failing;
        Some((search, found.heads))
    }
}

async fn search(
    database: PgConnectOptions,
    limit: Duration,
    session: Option<PgConnection>,
    shards: Vec<i16>,
    except: Vec<i64>,
) -> sqlx::Result<Found> {
    let mut session = match session {
        Some(session) => session,
        None => scan::connect(&database, &[]).await?,
    };
    let limit = format!("{}ms", limit.as_millis());
    pg::set_in_session(&mut session, &[("statement_timeout", limit)]).await?;
    let heads = scan::heads(&mut session, &shards, &except).await?;
    Ok(Found { session: Some(session), heads: Some(heads) })
}

impl Session<'_> {
    /// Begins to search shards that were taken, or at times for what was overlooked in the others. So what is remembered of
    /// the outbox is never what a row's publication depends on.
    pub(super) async fn begin_search(&mut self) -> Result<(), SessionError> {
        let began = Instant::now();
        let is_of_fresh = !self.shards.fresh().is_empty();
        match &self.searcher.running {
            Some(running) if running.is_of_fresh || !is_of_fresh => return Ok(()),
            _ => {}
        }
        if !is_of_fresh && (began < self.searcher.next_sweep || self.shards.owned().is_empty()) {
            return Ok(());
        }
        let shards = if is_of_fresh { self.shards.fresh() } else { self.shards.owned() }.to_vec();
        // Rows that are deleted during the search are not overlooked.
        self.delete().await?;
        let except: Vec<_> = self.flights.ids().chain(self.locked.iter().copied()).collect();
        let busy = self.topics.iter().filter(|(id, _)| self.flights.of_topic(*id) > 0);
        let busy = busy.map(|(id, _)| id).collect();
        let task = self.searcher.begin(shards.clone(), except);
        let after = self.after;
        self.searcher.running = Some(Search { task, began, shards, is_of_fresh, after, busy });
        Ok(())
    }

    /// Takes over what a search found that has ended. One that failed is repeated later.
    pub(super) async fn take_search(&mut self) -> Result<(), SessionError> {
        let Some((search, Some(heads))) = self.searcher.take_ended() else { return Ok(()) };
        if search.is_of_fresh {
            self.take_over(&search, heads);
            return Ok(());
        }
        self.forget_topics_without(&search, &heads);
        self.leave_overlooked(&search, heads).await
    }

    /// Leaves aside what waits in shards that were taken, and reads them from now on.
    fn take_over(&mut self, search: &Search, heads: Vec<LaneHead>) {
        let shards = self.shards.admit(&search.shards);
        if shards.is_empty() {
            return; // They were given up meanwhile.
        }
        for shard in &shards {
            self.go_back(*shard, search.after);
        }
        for head in heads {
            if head.id <= self.after && shards.contains(&head.shard) {
                let topic = self.topics.id(&head.topic);
                self.leave_topic(topic).leave(head.shard, head.id);
            }
        }
        self.report_shards();
    }

    /// Leaves aside rows that nothing accounts for: written with ids of their own by hand, for instance.
    async fn leave_overlooked(
        &mut self,
        search: &Search,
        mut heads: Vec<LaneHead>,
    ) -> Result<(), SessionError> {
        let (topics, shards) = (&mut self.topics, self.shards.owned());
        let after = search.after.min(self.after);
        heads.retain(|head| {
            let topic = topics.id(&head.topic);
            head.id <= after
                && shards.contains(&head.shard)
                && !topics.get(topic).covers(head.shard, head.id, &head.key)
        });
        if heads.is_empty() {
            return Ok(());
        }
        // The search takes a while. Those that were sent meanwhile are under way or gone.
        self.delete().await?;
        let ids: Vec<_> = heads.iter().map(|head| head.id).collect();
        let existing = within(scan::existing(self.shards.session(), &ids)).await;
        let existing = unless_locked(existing)?.unwrap_or_default();
        for head in heads.into_iter().filter(|head| existing.contains(&head.id)) {
            if !self.flights.contains(head.id) && !self.locked.contains(&head.id) {
                let (topic, id) = (&*head.topic, head.id);
                tracing::warn!(topic, id, "found events with ids of the past");
                let topic = self.topics.id(topic);
                self.leave_topic(topic).leave(head.shard, id);
            }
        }
        Ok(())
    }

    /// Ends the pauses of topics of which no row waits any more: somebody deleted what could not be sent.
    fn forget_topics_without(&mut self, search: &Search, heads: &[LaneHead]) {
        let is_searched = |shard| search.shards.contains(shard);
        if !self.shards.are_settled() || !self.shards.owned().iter().all(is_searched) {
            return;
        }
        let waiting: HashSet<_> = heads.iter().map(|head| &*head.topic).collect();
        for (id, topic) in self.topics.iter_mut() {
            let is_under_way = search.busy.contains(&id) || self.flights.of_topic(id) > 0;
            if topic.waits() && !is_under_way && !waiting.contains(&*topic.name) {
                topic.forget_waiting();
                // What was written during the search is read again.
                self.after = self.after.min(search.after);
                self.passed.retain(|_, other| *other != id);
                self.has_new = true;
            }
        }
    }

    /// Reads a shard from this id on: up to it, its rows are gone, under way or left aside, and what comes behind was passed
    /// over. That the other shards are read again from there makes no difference to them.
    pub(super) fn go_back(&mut self, shard: i16, after: i64) {
        for (_, topic) in self.topics.iter_mut() {
            if let Some(aside) = &mut topic.aside {
                aside.leave(shard, after.saturating_add(1));
            }
        }
        self.after = self.after.min(after);
        self.passed.clear();
        self.has_new = true;
    }
}
