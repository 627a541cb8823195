use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::PgConnection;

/// Interval of looks while events are written.
const BUSY: Duration = Duration::from_millis(100);
/// Additional interval while none are.
const QUIET: Duration = Duration::from_millis(900);
/// Duration after which a transaction that delays the horizon is logged.
const LONG: Duration = Duration::from_secs(30);
/// Prefix of transactions that were prepared before the server's start. Postgres 14.0 renames every
/// transaction in this way when it is prepared; later releases keep its name.
const RENAMED: &str = "-1/";

/// Virtual transactions that write, with their processes. A prepared transaction has none.
type Writers = BTreeMap<String, Option<i32>>;
/// The last assigned id, and the transactions that write and their processes.
type Look = (Option<i64>, Vec<String>, Vec<Option<i32>>);

/// The id up to which no event can become visible any more.
///
/// Ids are assigned before the commit, so they become visible out of order, and a scan that starts
/// after the last seen id loses events. This horizon is proven: every writer holds a
/// `RowExclusiveLock` on the outbox from before it gets an id until after its commit is visible. So
/// once every transaction that held the lock has ended, all ids assigned by then are visible or
/// never will be. Transactions that do not write to the outbox, for example a backup, do not delay
/// it.
#[derive(Debug)]
pub(crate) struct Horizon {
    proven: i64,
    /// The last assigned id, as of the previous look: read before the writers of the next look are
    /// listed.
    assigned: Option<i64>,
    candidate: Option<Candidate>,
    next_look: Instant,
}

/// The next horizon, once these transactions have ended.
#[derive(Debug)]
struct Candidate {
    id: i64,
    writers: Writers,
    since: Instant,
    is_logged: bool,
}

/// The sequence of an outbox went back to a lower id: a restored backup, or `alter sequence ..
/// restart`.
#[derive(Debug, thiserror::Error)]
#[error("the ids of the outbox have restarted")]
pub(crate) struct Restarted;

impl Horizon {
    pub(crate) fn new() -> Self {
        Self { proven: 0, assigned: None, candidate: None, next_look: Instant::now() }
    }

    pub(crate) fn proven(&self) -> i64 {
        self.proven
    }

    /// Returns the last id assigned before the latest look, or `None` without permission to read
    /// the sequence.
    pub(crate) fn assigned(&self) -> Option<i64> {
        self.assigned
    }

    /// Returns the time of the next look.
    pub(crate) fn next_look(&self, is_busy: bool) -> Instant {
        if is_busy { self.next_look } else { self.next_look + QUIET }
    }

    /// Reads the last assigned id and the writing transactions, and advances the horizon.
    pub(crate) async fn look(
        &mut self,
        session: &mut PgConnection,
    ) -> sqlx::Result<Result<(), Restarted>> {
        self.next_look = Instant::now() + BUSY;
        let (assigned, transactions, processes): Look = sqlx::query_as(
            "select case when has_sequence_privilege(sequence::oid, 'select')
                         then coalesce(pg_sequence_last_value(sequence), 0) end,
                    transactions, processes
             from (select pg_get_serial_sequence('outbox', 'id')::regclass as sequence) ids,
                  (select coalesce(array_agg(virtualtransaction), '{}') as transactions,
                          coalesce(array_agg(pid), '{}') as processes
                   from pg_locks
                   where locktype = 'relation' and relation = 'outbox'::regclass and mode = 'RowExclusiveLock'
                     and database = (select oid from pg_database where datname = current_database())
                     and pid is distinct from pg_backend_pid()) writers",
        )
        .fetch_one(session)
        .await?;
        let observed = self.observe(assigned, transactions.into_iter().zip(processes).collect());
        self.log_delay(Instant::now());
        Ok(observed)
    }

    /// Logs transactions that delay the horizon for long. Meanwhile each read walks over all rows
    /// that were published since, and vacuum can't remove them.
    fn log_delay(&mut self, now: Instant) {
        let Some(candidate) = &mut self.candidate else { return };
        if !candidate.is_logged && now.saturating_duration_since(candidate.since) > LONG {
            candidate.is_logged = true;
            let names = candidate.writers.iter().map(|(transaction, process)| match process {
                Some(process) => format!("{transaction} of process {process}"),
                None => transaction.clone(),
            });
            let names: Vec<_> = names.collect();
            tracing::warn!(
                transactions = names.join(", "),
                "long transactions delay the outbox relay"
            );
        }
    }

    fn observe(&mut self, assigned: Option<i64>, writers: Writers) -> Result<(), Restarted> {
        if assigned.is_some_and(|assigned| assigned < self.proven) {
            return Err(Restarted);
        }
        if let Some(candidate) = &mut self.candidate {
            // Without comparing the processes: a prepared transaction keeps its locks.
            let former = std::mem::take(&mut candidate.writers);
            let is_awaited = |transaction: &str| {
                former.contains_key(transaction) || transaction.starts_with(RENAMED)
            };
            let awaited = writers.iter().filter(|(transaction, _)| is_awaited(transaction));
            candidate.writers = awaited.map(|(name, process)| (name.clone(), *process)).collect();
        }
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.writers.is_empty()) {
            self.proven = candidate.id;
        }
        let previous = std::mem::replace(&mut self.assigned, assigned);
        if let Some(id) = previous.filter(|id| self.candidate.is_none() && *id > self.proven) {
            if writers.is_empty() {
                self.proven = id;
            } else {
                self.candidate =
                    Some(Candidate { id, writers, since: Instant::now(), is_logged: false });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> Writers {
        names.iter().map(|name| ((*name).to_owned(), Some(7))).collect()
    }

    #[test]
    fn ids_that_were_given_before_nobody_wrote_are_proven() {
        let mut horizon = Horizon::new();
        horizon.observe(Some(7), writers(&[])).expect("no restart");
        assert_eq!(horizon.proven(), 0, "a writer may have begun between the two halves of a look");
        horizon.observe(Some(9), writers(&[])).expect("no restart");
        assert_eq!(horizon.proven(), 7);
    }

    #[test]
    fn a_transaction_that_writes_holds_the_horizon_until_it_ends_and_later_ones_do_not() {
        let mut horizon = Horizon::new();
        horizon.observe(Some(7), writers(&["3/1"])).expect("no restart");
        horizon.observe(Some(9), writers(&["3/1", "4/1"])).expect("no restart");
        horizon.observe(Some(12), writers(&["3/1", "5/1"])).expect("no restart");
        assert_eq!(horizon.proven(), 0);
        horizon.observe(Some(15), writers(&["5/1", "3/2"])).expect("no restart");
        assert_eq!(horizon.proven(), 7);
    }

    #[test]
    fn a_writer_that_is_prepared_meanwhile_still_holds_the_horizon() {
        for prepared in ["3/1", "-1/740"] {
            let mut horizon = Horizon::new();
            for assigned in [Some(7), Some(9)] {
                horizon.observe(assigned, writers(&["3/1"])).expect("no restart");
            }
            for assigned in [Some(12), Some(15)] {
                let without_process = [(prepared.to_owned(), None)].into();
                horizon.observe(assigned, without_process).expect("no restart");
                assert_eq!(horizon.proven(), 0, "{prepared}");
            }
            horizon.observe(Some(18), writers(&["4/1"])).expect("no restart");
            assert_eq!(horizon.proven(), 7, "{prepared}");
        }
    }

    #[test]
    fn a_transaction_that_delays_the_horizon_for_long_is_logged_once() {
        let mut horizon = Horizon::new();
        for assigned in [Some(7), Some(7)] {
            horizon.observe(assigned, writers(&["3/1"])).expect("no restart");
        }
        let is_logged = |horizon: &Horizon| horizon.candidate.as_ref().map(|it| it.is_logged);
        horizon.log_delay(Instant::now());
        assert_eq!(is_logged(&horizon), Some(false));
        horizon.log_delay(Instant::now() + 2 * LONG);
        assert_eq!(is_logged(&horizon), Some(true));
    }

    #[test]
    fn ids_that_begin_anew_are_noticed_and_unknown_ones_prove_nothing() {
        let mut horizon = Horizon::new();
        for assigned in [Some(7), Some(7)] {
            horizon.observe(assigned, writers(&[])).expect("no restart");
        }
        assert!(horizon.observe(Some(3), writers(&[])).is_err());
        let mut blind = Horizon::new();
        for _ in 0..3 {
            blind.observe(None, writers(&[])).expect("no restart");
        }
        assert_eq!(blind.proven(), 0);
    }
}
