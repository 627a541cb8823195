use std::collections::HashSet;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::task::AbortOnDropHandle;

use super::{LOCK_NOT_AVAILABLE, Session, SessionError, unless_locked, within};
use crate::reasons::LoggedReasons;
use crate::scan::{self, LaneHead};
use crate::topic::TopicId;

/// Time limit of a search, on the server and in this process. It may scan dead rows that a backup's
/// snapshot keeps.
const LIMIT: Duration = Duration::from_mins(5);
/// Time limit of the server's other answers.
const GRACE: Duration = Duration::from_secs(10);
/// Minimum interval of searches for overlooked rows. Slow searches take at most a 50th of the time.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_SHARE: u32 = 50;
const LONGEST_REST: Duration = Duration::from_mins(10);
/// How long newly taken shards are kept while their searches fail. Other relays may be able to
/// search them.
const UNSEARCHED: Duration = Duration::from_secs(5);
/// SQLSTATE of a cancelled statement, for example by its time limit.
const QUERY_CANCELED: &str = "57014";

/// Searches for the first row of each lane on a separate connection, so that nothing waits for it.
pub(crate) struct Searcher {
    database: PgConnectOptions,
    pub(super) limit: Duration,
    session: Option<PgConnection>,
    pub(super) running: Option<Search>,
    /// Result of the latest search.
    found: Option<SearchResult>,
    /// Time of the next search for overlooked rows.
    pub(super) next_sweep: Instant,
    /// The reasons of the failures since a search last succeeded.
    failures: LoggedReasons,
    /// When a search of newly taken shards first failed, unless one was merely slow since.
    failing_since: Option<Instant>,
}

/// A started search.
pub(super) struct Search {
    task: AbortOnDropHandle<SearchResult>,
    began: Instant,
    shards: Vec<i16>,
    /// `true` for newly taken shards, whose rows are unknown rather than overlooked.
    is_of_fresh: bool,
    /// Rows of the owned shards up to this id were accounted for.
    after: i64,
    /// Topics with records in flight, which the search skips.
    busy: HashSet<TopicId>,
}

/// Result of a search, with its connection, which is used again.
type SearchResult = sqlx::Result<(PgConnection, Vec<LaneHead>)>;

impl Searcher {
    /// Opens the connection, and searches no shard: fails if no shard could be searched.
    pub(crate) async fn open(database: PgConnectOptions) -> sqlx::Result<Self> {
        let mut session = scan::connect(&database, &[]).await?;
        scan::heads(&mut session, &[], &[]).await?;
        Ok(Self { session: Some(session), ..Self::new(database) })
    }

    /// Creates a searcher that opens its connection with the first search.
    pub(super) fn new(database: PgConnectOptions) -> Self {
        Self {
            database,
            limit: LIMIT,
            session: None,
            running: None,
            found: None,
            next_sweep: Instant::now(),
            failures: LoggedReasons::default(),
            failing_since: None,
        }
    }

    #[cfg(test)]
    pub(super) fn is_failing(&self) -> bool {
        self.failures.len() > 0
    }

    /// Waits for the end of the search, if any.
    pub(super) async fn wait(&mut self) {
        match &mut self.running {
            Some(search) if self.found.is_none() => {
                // The task does not panic.
                let found = (&mut search.task).await;
                self.found = Some(found.unwrap_or(Err(sqlx::Error::WorkerCrashed)));
            }
            _ => std::future::pending().await,
        }
    }

    fn begin(&mut self, shards: Vec<i16>, except: Vec<i64>) -> AbortOnDropHandle<SearchResult> {
        self.found = None;
        let (database, limit, session) = (self.database.clone(), self.limit, self.session.take());
        AbortOnDropHandle::new(tokio::spawn(search(database, limit, session, shards, except)))
    }

    /// Returns the ended search, if any, and its result.
    fn take_ended(&mut self) -> Option<(Search, sqlx::Result<Vec<LaneHead>>)> {
        let found = self.found.take()?;
        let search = self.running.take()?;
        let rest = search.began.elapsed() * SWEEP_SHARE;
        self.next_sweep = search.began + rest.clamp(SWEEP, LONGEST_REST);
        let heads = found.map(|(session, heads)| {
            self.session = Some(session);
            self.failures.clear();
            self.failing_since = None;
            heads
        });
        Some((search, heads))
    }

    /// Logs a failure, once for each reason until a search succeeds. Fails if searches of newly
    /// taken shards have failed for a while: the session ends, and other relays can take them. A
    /// slow search does not fail, because it would be slow elsewhere, too.
    fn failed(&mut self, search: &Search, error: sqlx::Error) -> Result<(), SessionError> {
        let is_new = self.failures.insert(&error);
        let (why, shards) = (&error as &dyn std::error::Error, &search.shards);
        if is_new {
            tracing::warn!(error = why, ?shards, "search of the outbox failed, retrying");
        } else {
            tracing::debug!(error = why, ?shards, "search of the outbox failed again");
        }
        if is_slow(&error) {
            self.failing_since = None;
        } else if search.is_of_fresh {
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= UNSEARCHED {
                return Err(SessionError::Search(error));
            }
        }
        Ok(())
    }
}

/// Returns whether a search ended because of the time that it took, or would have waited.
fn is_slow(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some(QUERY_CANCELED | LOCK_NOT_AVAILABLE))
}

async fn search(
    database: PgConnectOptions,
    limit: Duration,
    session: Option<PgConnection>,
    shards: Vec<i16>,
    except: Vec<i64>,
) -> SearchResult {
    // A connection that a firewall has forgotten does not answer. It is found out before the
    // search, which takes long.
    let answering = async {
        let mut session = match session {
            Some(session) => session,
            None => scan::connect(&database, &[]).await?,
        };
        let limit = format!("{}ms", limit.as_millis());
        pg::set_in_session(&mut session, &[("statement_timeout", limit)]).await?;
        Ok(session)
    };
    let mut session = pg::within(GRACE, answering).await?;
    let heads = pg::within(limit + GRACE, scan::heads(&mut session, &shards, &except)).await?;
    Ok((session, heads))
}

impl Session<'_> {
    /// Starts a search of newly taken shards, or periodically for overlooked rows in the others, so
    /// that the publication of a row never depends on the relay's memory.
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

    /// Applies the result of an ended search. A failed search is repeated later. Fails if newly
    /// taken shards can't be searched.
    pub(super) async fn take_search(&mut self) -> Result<(), SessionError> {
        let Some((search, found)) = self.searcher.take_ended() else { return Ok(()) };
        let heads = match found {
            Ok(heads) => heads,
            Err(error) => return self.searcher.failed(&search, error),
        };
        if search.is_of_fresh {
            self.take_over(&search, heads);
            return Ok(());
        }
        self.forget_topics_without(&search, &heads);
        self.leave_overlooked(&search, heads).await
    }

    /// Leaves aside the waiting rows of newly taken shards, and reads these shards from now on.
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

    /// Leaves aside unaccounted rows, for example rows inserted by hand with explicit ids.
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
        // Rows that were sent during the search are in flight or gone.
        self.delete().await?;
        let ids: Vec<_> = heads.iter().map(|head| head.id).collect();
        let existing = within(scan::existing(self.shards.session(), &ids)).await;
        let existing = unless_locked(existing)?.unwrap_or_default();
        for head in heads.into_iter().filter(|head| existing.contains(&head.id)) {
            if !self.flights.contains(head.id) && !self.locked.contains(&head.id) {
                let (topic, id) = (&*head.topic, head.id);
                tracing::warn!(topic, id, "events found below the read position");
                let topic = self.topics.id(topic);
                self.leave_topic(topic).leave(head.shard, id);
            }
        }
        Ok(())
    }

    /// Ends the pauses of topics without waiting rows: the rows that could not be sent were
    /// deleted.
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
                // Rows written during the search are read again.
                self.after = self.after.min(search.after);
                self.passed.retain(|_, other| *other != id);
                self.has_new = true;
            }
        }
    }

    /// Reads again from this id on: the shard's rows up to it are gone, in flight or left aside,
    /// and later ones were skipped. The other shards are read again from there too, which does no
    /// harm.
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
