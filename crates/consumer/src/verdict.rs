//! Executes attempts and decides what their results mean for the messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kafka::Record;
use tracing::Instrument;

use crate::attempt::{Attempts, Bookkeeping};
use crate::chain::Chain;
use crate::failure::{Class, Failure};
use crate::history::Histories;
use crate::letters::LetterReason;
use crate::message::{Blocked, Conflict, Content, KeyHash, Message, Taken};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::spans;
use crate::status::Status;

/// Number of attempts after which a conflict is shown in the status; shorter ones are normal.
const SHOWN_AFTER: u32 = 2;

/// Window for recent refusals; a parked key is attempted several times within it.
const LATELY: Duration = Duration::from_mins(1);

/// Decision about the messages of an attempt.
pub(crate) enum Verdict {
    /// The messages are settled: their offsets may be stored.
    Settled,
    /// Attempts each message alone.
    Apart,
    /// Attempts each message alone outside the lane, since one of them is in conflict.
    Aside,
    /// Retries the message after this time.
    RetryIn(Duration),
    /// The database may be unavailable; a write has to show it.
    Unavailable(Failure),
    /// Writes the message to the dead letters.
    DeadLetter(LetterReason),
    /// The same after its last retry, unless the circuit breaker opens.
    Exhausted(Failure),
}

/// Executes attempts and judges their results.
pub(crate) struct Judge {
    attempts: Attempts,
    histories: Arc<Histories>,
    options: Options,
    status: Status,
    refusals: Refusals,
    blocked: Blocked,
}

/// The message has used up its attempts, and the result of the last one is unknown.
#[derive(Debug, thiserror::Error)]
#[error("all attempts are used up{}", .0.as_ref().map_or_else(
    || "; the process ended during the last one".to_owned(),
    |reason| format!("; the last one failed: {reason}"),
))]
struct HadAllAttempts(Option<String>);

impl Judge {
    pub(crate) fn new(
        attempts: Attempts,
        histories: Arc<Histories>,
        options: Options,
        status: Status,
    ) -> Self {
        let (refusals, blocked) = (Refusals::default(), Blocked::default());
        Self { attempts, histories, options, status, refusals, blocked }
    }

    /// Returns whether a message must not share a transaction: it failed before, was being
    /// attempted when a process died, is not an event, or a fault is injected.
    pub(crate) fn must_be_alone(&self, taken: &Taken) -> bool {
        taken.retries > 0
            || taken.conflict.is_some()
            || !matches!(taken.content, Content::Event(_))
            || self.attempts.faults.any()
    }

    /// Attempts one message, or several in one transaction.
    pub(crate) async fn judge(&self, taken: &mut [Taken], chain: &mut Chain) -> Verdict {
        match taken {
            [] => Verdict::Settled,
            [one] => {
                let span = one.span.clone();
                self.judge_one(one, chain).instrument(span).await
            }
            several => self.judge_several(several, chain).await,
        }
    }

    async fn judge_several(&self, taken: &mut [Taken], chain: &mut Chain) -> Verdict {
        let span = spans::of_batch(taken, &self.attempts.group);
        match self.attempt(taken, chain).instrument(span).await {
            Ok(_) => Verdict::Settled,
            Err(failure) if failure.class() == Class::Unavailable => {
                self.attempts.instruments.unavailable();
                Verdict::Unavailable(failure)
            }
            Err(failure) => {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    messages = taken.len(),
                    "batch failed, attempting its messages one by one"
                );
                if failure.class() != Class::Conflict {
                    return Verdict::Apart;
                }
                for it in taken {
                    it.conflict.get_or_insert_with(|| Conflict::new(self.attempts.commits()));
                }
                Verdict::Aside
            }
        }
    }

    async fn judge_one(&self, taken: &mut Taken, chain: &mut Chain) -> Verdict {
        let failure = match &taken.content {
            Content::Ignored => {
                self.attempts.instruments.settled(Outcome::Ignored);
                return Verdict::Settled;
            }
            Content::Buried => return Verdict::Settled,
            Content::Unreadable(failure) => {
                log(failure, taken);
                return Verdict::DeadLetter(failure.into());
            }
            // Its last attempt crashed the process, or the process ended before its dead letter was
            // written.
            Content::Event(_) if taken.retries > self.options.retries => {
                let before = taken.history.of(taken.record());
                Failure::transient(HadAllAttempts(before.reason))
            }
            Content::Event(_) => match self.attempt(std::slice::from_ref(taken), chain).await {
                Ok(_) => return Verdict::Settled,
                Err(failure) => failure,
            },
        };
        self.judge_failure(taken, failure).await
    }

    async fn judge_failure(&self, taken: &mut Taken, failure: Failure) -> Verdict {
        log(&failure, taken);
        match failure.class() {
            Class::Unavailable => {
                self.attempts.instruments.unavailable();
                Verdict::Unavailable(failure)
            }
            Class::Conflict => self.judge_conflict(taken, failure).await,
            Class::Transient => self.judge_transient(taken, failure).await,
            Class::Permanent => Verdict::DeadLetter((&failure).into()),
        }
    }

    /// Probes a message without counting an attempt. Returns whether its handler succeeded. It is
    /// not called for duplicates, for non-events, and for a message that has used up its attempts:
    /// if that one crashes the process, it would do so at each probe.
    pub(crate) async fn try_one(&self, taken: &Taken) -> Result<bool, Failure> {
        let has_attempts = taken.retries <= self.options.retries;
        if !(matches!(taken.content, Content::Event(_)) && has_attempts) {
            return Ok(false);
        }
        let span = taken.span.clone();
        let mut chain = Chain::default();
        let tried = self.attempt(std::slice::from_ref(taken), &mut chain).instrument(span).await;
        match tried {
            Ok(outcomes) => Ok(outcomes == [Outcome::Processed]),
            Err(failure) => {
                log(&failure, taken);
                if taken.history.is_cautious() {
                    self.take_back(&[taken], &failure).await;
                }
                Err(failure)
            }
        }
    }

    /// Judges a failure caused neither by the message nor by the whole database. It counts once it
    /// has lasted for `conflict_limit` while other messages were committed, unless the database
    /// refuses messages of other keys as well, or the handler reports an unavailable dependency.
    pub(crate) async fn judge_conflict(&self, taken: &mut Taken, failure: Failure) -> Verdict {
        let commits = self.attempts.commits();
        let conflict = taken.conflict.get_or_insert_with(|| Conflict::new(commits));
        conflict.attempts += 1;
        if failure.is_lock_timeout() {
            conflict.counted.get_or_insert_with(|| self.blocked.add());
        }
        if conflict.attempts == SHOWN_AFTER {
            conflict.shown = Some(self.status.park(failure.to_string()));
        }
        let others_succeed = commits > conflict.commits;
        let refused_like_others =
            failure.is_refusal() && self.refusals.of_others(taken.queued.key_hash());
        if conflict.since.elapsed() < self.options.conflict_limit
            || !others_succeed
            || refused_like_others
            || !failure.may_be_the_messages()
        {
            return Verdict::RetryIn(Options::conflict_backoff(conflict.attempts));
        }
        self.judge_transient(taken, failure).await
    }

    async fn judge_transient(&self, taken: &mut Taken, failure: Failure) -> Verdict {
        if taken.retries >= self.options.retries {
            return Verdict::Exhausted(failure);
        }
        taken.retries += 1;
        self.note_failure(taken, &failure).await;
        Verdict::RetryIn(self.options.backoff(taken.retries))
    }

    /// Executes one attempt. After a crash, messages are marked before their attempt, so that
    /// another crash identifies the suspects, each of which is then attempted alone.
    async fn attempt(&self, taken: &[Taken], chain: &mut Chain) -> Result<Vec<Outcome>, Failure> {
        // Evaluated once, because another lane may settle the last suspect meanwhile.
        let (suspects, calm): (Vec<_>, Vec<_>) =
            taken.iter().partition(|it| it.history.is_cautious());
        let cautious: Vec<&Record> = suspects.iter().map(|it| it.record()).collect();
        let failed_before = calm.into_iter().filter(|it| it.retries > 0).map(Taken::record);
        if !cautious.is_empty() {
            // Marking takes a connection of its own, and waits for other attempts.
            chain.end();
        }
        let (_exclusive, _shared);
        match (taken, &*cautious) {
            (_, []) => {}
            ([suspect], _) if suspect.retries > 0 => {
                _exclusive = self.histories.exclusive().await;
                let (attempt, event) = (suspect.retries + 1, suspect.envelope());
                let noted = self.histories.note(suspect.record(), attempt, None, event).await;
                noted.map_err(Failure::own)?;
            }
            _ => {
                _shared = self.histories.shared().await;
                self.histories.mark(&cautious).await.map_err(Failure::own)?;
            }
        }
        let bookkeeping = Bookkeeping {
            noted: cautious.iter().copied().chain(failed_before).collect(),
            replaying: None,
            conflicts: taken
                .iter()
                .filter_map(|it| it.conflict.as_ref())
                .map(|it| it.attempts)
                .max(),
            blocked: self.blocked.count(),
        };
        let messages: Vec<&Message> = taken.iter().filter_map(message).collect();
        let made = self.attempts.make_in(&messages, bookkeeping, chain).await;
        // A batch that fails for another reason does not count either: its messages are attempted
        // one by one.
        if let Err(failure) = &made
            && (taken.len() > 1 || matches!(failure.class(), Class::Conflict | Class::Unavailable))
        {
            self.take_back(&suspects, failure).await;
        }
        let outcomes = made?;
        for ((message, outcome), it) in messages.iter().zip(&outcomes).zip(taken) {
            self.attempts.settled(message, *outcome, it.retries);
        }
        Ok(outcomes)
    }

    /// Takes back the marks of an attempt that does not count. Otherwise the next crash would count
    /// it, even if another message causes that.
    async fn take_back(&self, suspects: &[&Taken], failure: &Failure) {
        let marked: Vec<_> = suspects.iter().map(|it| (it.record(), it.retries)).collect();
        if let Err(error) = self.histories.take_back(&marked, &failure.reason().message).await {
            // The next attempt takes them back.
            tracing::debug!(error = &error as &dyn std::error::Error, "marks not taken back");
        }
    }

    async fn note_failure(&self, taken: &Taken, failure: &Failure) {
        let reason = failure.reason();
        let (record, event) = (taken.record(), taken.envelope());
        let noted = self.histories.note(record, taken.retries, Some(&reason), event);
        if let Err(error) = noted.await {
            // This instance still counts it while it has the partition.
            tracing::warn!(error = &error as &dyn std::error::Error, "attempt not recorded");
        }
    }
}

/// Keys whose messages the database has refused recently.
#[derive(Default)]
struct Refusals(Mutex<HashMap<KeyHash, Instant>>);

impl Refusals {
    /// Records a refusal for this key, and returns whether another key had a recent one.
    fn of_others(&self, key: KeyHash) -> bool {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, at| at.elapsed() < LATELY);
        refused.insert(key, Instant::now());
        refused.len() > 1
    }
}

fn message(taken: &Taken) -> Option<&Message> {
    match &taken.content {
        Content::Event(message) => Some(message),
        Content::Ignored | Content::Buried | Content::Unreadable(_) => None,
    }
}

fn log(failure: &Failure, taken: &Taken) {
    let record = taken.record();
    tracing::warn!(
        error = failure as &dyn std::error::Error,
        class = ?failure.class(),
        retry = taken.retries,
        topic = record.topic,
        partition = record.partition,
        offset = record.offset,
        "attempt failed"
    );
    telemetry::note_failed_attempt(&taken.span, taken.retries + 1, failure);
}
