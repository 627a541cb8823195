//! One run of a replay: attempts its letters and settles them.

use std::collections::HashMap;
use std::time::Instant;

use kafka::Record;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::bulk;
use super::burial::LetterReason;
use super::pace::Pace;
use super::plan::{Plan, PlannedLetter};
use super::record::{COLUMNS, StoredRecord};
use super::replayer::{Claimed, Replayer};
use super::settling::{self, NotRunning, Replaying};
use crate::attempt::Bookkeeping;
use crate::database::ProbeResult;
use crate::failure::{Class, Failure};
use crate::message::{Content, Message};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::spans;

/// Number of attempts at a letter in conflict before it counts as failed, with growing waits.
const CONFLICTS: u32 = 5;

/// The process ended while the letter was being attempted alone.
#[derive(Debug, thiserror::Error)]
#[error("the process ended while this letter was replayed, alone")]
struct EndedProcess;

/// End of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RunEnd {
    /// All letters were attempted.
    Done,
    /// The replay waits for an operator, for this reason.
    Paused(String),
    /// Shutdown, or the lease was lost.
    Interrupted,
}

pub(super) struct Run<'a> {
    replayer: &'a Replayer,
    claimed: &'a Claimed,
    /// Cancelled by shutdown and by the loss of the lease.
    holds: &'a CancellationToken,
    plan: Plan,
    pace: Pace,
    /// Number of failures in this run.
    failed: usize,
}

/// A letter that was read.
struct OpenedLetter {
    planned: PlannedLetter,
    content: Content,
    record: Record,
    span: Span,
}

/// Why the run stops.
enum Stop {
    /// The lease was lost, or the replay was paused or cancelled.
    NotRunning,
    /// The replay pauses and waits for an operator, for this reason.
    Pause(String),
    /// The database failed.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// Fails with [`Stop::NotRunning`] unless `runs`.
fn ensure_running(runs: bool) -> Result<(), Stop> {
    if runs { Ok(()) } else { Err(Stop::NotRunning) }
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        replayer: &'a Replayer,
        claimed: &'a Claimed,
        holds: &'a CancellationToken,
    ) -> sqlx::Result<Self> {
        let reading = Plan::read(&replayer.pool, claimed.id, claimed.rehearsal);
        let plan = bulk::bounded(reading).await?;
        let pace = Pace::new(claimed.rate, claimed.ramp);
        Ok(Self { replayer, claimed, holds, plan, pace, failed: 0 })
    }

    pub(super) async fn run(mut self) -> sqlx::Result<RunEnd> {
        match self.attempt_all().await {
            Ok(ended) => Ok(ended),
            Err(Stop::NotRunning) => Ok(RunEnd::Interrupted),
            Err(Stop::Pause(why)) => Ok(RunEnd::Paused(why)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn attempt_all(&mut self) -> Result<RunEnd, Stop> {
        for suspects in self.plan.take_begun() {
            self.ensure_may_continue()?;
            self.attempt_suspects(suspects).await?;
        }
        loop {
            // Before the end, because the last letters may not have been attempted.
            self.ensure_may_continue()?;
            let taken = self.plan.take(self.pace.at_most());
            if taken.is_empty() {
                return Ok(RunEnd::Done);
            }
            if let Some(due) = self.pace.due(taken.len()) {
                self.holds.run_until_cancelled(tokio::time::sleep_until(due)).await;
            }
            ensure_running(!self.holds.is_cancelled())?;
            let (letters, before) = (taken.len(), self.failed);
            Box::pin(self.attempt(taken)).await?;
            if let Some(why) = self.pace.done(letters, self.failed - before) {
                return Ok(RunEnd::Paused(why));
            }
        }
    }

    fn ensure_may_continue(&self) -> Result<(), Stop> {
        ensure_running(!self.holds.is_cancelled())?;
        if self.has_failed_enough() {
            return Err(Stop::Pause(format!("{} failed again", self.failed)));
        }
        Ok(())
    }

    /// Holds the letters that have expired since the request. Returns the others.
    async fn hold_expired(
        &mut self,
        letters: Vec<PlannedLetter>,
    ) -> Result<Vec<PlannedLetter>, Stop> {
        let now = Instant::now();
        let (expired, left): (Vec<_>, Vec<_>) =
            letters.into_iter().partition(|it| it.is_expired(now));
        if !expired.is_empty() {
            // Later letters of their keys must not overtake them.
            self.plan.held.extend(expired.iter().map(|it| it.key));
            let why = || Some("it has expired since: the inbox may have forgotten it".to_owned());
            let noted: Vec<_> = expired.iter().map(|it| (it.letter, "held", why())).collect();
            let noted = settling::note(&self.replayer.pool, self.claimed.lease(), &noted);
            ensure_running(noted.await?)?;
        }
        Ok(left)
    }

    fn has_failed_enough(&self) -> bool {
        let limit = self.claimed.stop_after.and_then(|it| usize::try_from(it).ok());
        limit.is_some_and(|limit| self.failed >= limit)
    }

    /// Attempts a letter that was being attempted when a process ended: alone and once. A rehearsal
    /// includes all letters of its key.
    async fn attempt_suspects(&mut self, suspects: Vec<PlannedLetter>) -> Result<(), Stop> {
        let suspects = self.hold_expired(suspects).await?;
        let Some(first) = suspects.first().copied() else { return Ok(()) };
        if self.plan.held.contains(&first.key) {
            return self.hold(&suspects).await;
        }
        if first.alone {
            self.fail(first, &Failure::permanent(EndedProcess)).await?;
            return self.hold(&suspects[1..]).await;
        }
        // No other suspect runs meanwhile.
        let _alone = self.replayer.histories.exclusive().await;
        self.begin(&suspects, true).await?;
        let opened = self.open(&suspects).await?;
        self.attempt_key(opened).await
    }

    async fn begin(&self, letters: &[PlannedLetter], alone: bool) -> Result<(), Stop> {
        let letters: Vec<_> = letters.iter().map(|it| it.letter).collect();
        ensure_running(
            settling::begin(&self.replayer.pool, self.claimed.lease(), &letters, alone).await?,
        )
    }

    /// Attempts letters together, and each by itself if that fails.
    async fn attempt(&mut self, taken: Vec<PlannedLetter>) -> Result<(), Stop> {
        let taken = self.hold_expired(taken).await?;
        let (held, free): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|it| self.plan.held.contains(&it.key));
        self.hold(&held).await?;
        if free.is_empty() {
            return Ok(());
        }
        self.begin(&free, false).await?;
        let opened = self.open(&free).await?;
        if opened.len() > 1 && self.attempt_together(&opened).await? {
            return Ok(());
        }
        for (at, opened) in self.in_turn(opened) {
            if self.plan.held.contains(&at.key) {
                self.hold(&[at]).await?;
            } else if self.has_failed_enough() || self.holds.is_cancelled() {
                // Started letters without an attempt are released with the lease.
                return Ok(());
            } else {
                self.attempt_key(opened).await?;
            }
        }
        Ok(())
    }

    /// Returns the letters of each attempt: a replay attempts each letter alone, a rehearsal all
    /// letters of a key together.
    fn in_turn(&self, opened: Vec<OpenedLetter>) -> Vec<(PlannedLetter, Vec<OpenedLetter>)> {
        let mut turns = Vec::<(PlannedLetter, Vec<OpenedLetter>)>::new();
        for it in opened {
            match turns.last_mut() {
                Some((at, of_key)) if self.claimed.rehearsal && at.key == it.planned.key => {
                    of_key.push(it);
                }
                _ => turns.push((it.planned, vec![it])),
            }
        }
        turns
    }

    async fn attempt_key(&mut self, mut opened: Vec<OpenedLetter>) -> Result<(), Stop> {
        if self.claimed.rehearsal {
            return self.rehearse_key(&opened).await;
        }
        match opened.pop() {
            Some(one) => self.attempt_alone(one).await,
            None => Ok(()),
        }
    }

    /// Reads letters, in their order.
    async fn open(&self, letters: &[PlannedLetter]) -> sqlx::Result<Vec<OpenedLetter>> {
        let Replayer { pool, attempts, kafka, .. } = self.replayer;
        let seqs: Vec<_> = letters.iter().map(|it| it.letter).collect();
        let query = format!("select {COLUMNS} from dead_letter where seq = any($1)");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(query));
        let found: Vec<StoredRecord> = pg::bounded(query.bind(seqs).fetch_all(pool)).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|it| (it.seq, it)).collect();
        let opened = letters.iter().filter_map(|planned| {
            let stored = found.remove(&planned.letter)?;
            let letter = stored.id;
            let record = stored.into_record();
            let topic = kafka.unprefixed(&record.topic);
            let decoded = kafka::decode(&record);
            let envelope = decoded.as_ref().ok().map(|event| &event.envelope);
            // A rehearsal processes nothing, so traces must not show a processing span.
            let span = if self.claimed.rehearsal {
                Span::none()
            } else {
                let (replay, steps) = (self.claimed.id, &attempts.steps);
                let replayed = spans::Replayed { replay, letter, steps };
                spans::of_replay(&record, envelope, topic, &attempts.group, &replayed)
            };
            let content = Content::read(decoded, topic, &attempts.subscription, &span);
            Some(OpenedLetter { planned: *planned, content, record, span })
        });
        Ok(opened.collect())
    }

    /// Returns `false` if each letter has to be attempted alone.
    async fn attempt_together(&mut self, opened: &[OpenedLetter]) -> Result<bool, Stop> {
        let messages: Vec<_> = opened.iter().filter_map(message).collect();
        if messages.len() < opened.len() || self.replayer.attempts.faults.any() {
            return Ok(false);
        }
        match self.make(opened, &messages).await {
            Ok(outcomes) => self.settled(opened, &outcomes).await.map(|()| true),
            Err(failure) if failure.is::<NotRunning>() => Err(Stop::NotRunning),
            Err(_) => Ok(false),
        }
    }

    async fn make(
        &self,
        opened: &[OpenedLetter],
        messages: &[&Message],
    ) -> Result<Vec<Outcome>, Failure> {
        let attempts = &self.replayer.attempts;
        if self.claimed.rehearsal {
            return attempts.rehearse(messages).await;
        }
        let letters: Vec<_> = opened.iter().map(|it| it.planned.letter).collect();
        let replaying = Replaying { lease: self.claimed.lease(), letters: &letters };
        let bookkeeping = Bookkeeping { replaying: Some(replaying), ..Bookkeeping::default() };
        attempts.make(messages, bookkeeping).await
    }

    /// Records letters that did not fail. Replayed letters were already resolved, in the
    /// transaction of their effect.
    async fn settled(&self, opened: &[OpenedLetter], outcomes: &[Outcome]) -> Result<(), Stop> {
        let Replayer { pool, attempts, .. } = self.replayer;
        if self.claimed.rehearsal {
            let noted = opened.iter().zip(outcomes);
            let noted: Vec<_> =
                noted.map(|(it, outcome)| (it.planned.letter, outcome.as_str(), None)).collect();
            return ensure_running(settling::note(pool, self.claimed.lease(), &noted).await?);
        }
        for (message, outcome) in opened.iter().filter_map(message).zip(outcomes) {
            attempts.settled(message, *outcome, 0);
        }
        Ok(())
    }

    /// Attempts one letter until it is settled.
    async fn attempt_alone(&mut self, opened: OpenedLetter) -> Result<(), Stop> {
        let message = match &opened.content {
            Content::Unreadable(failure) => {
                show(&opened.span, failure);
                return self.fail(opened.planned, failure).await;
            }
            Content::Event(message) => message,
            Content::Ignored | Content::Buried => return self.ignore(opened.planned).await,
        };
        let mut conflicts = 0;
        loop {
            let messages = [message];
            let made = self.make(std::slice::from_ref(&opened), &messages);
            let failure = match made.instrument(message.event().span.clone()).await {
                Ok(outcomes) => {
                    return self.settled(std::slice::from_ref(&opened), &outcomes).await;
                }
                Err(failure) if failure.is::<NotRunning>() => return Err(Stop::NotRunning),
                Err(failure) => failure,
            };
            log(&failure, &opened.record);
            telemetry::note_failed_attempt(&opened.span, conflicts + 1, &failure);
            if !self.is_to_be_tried_again(&failure, &mut conflicts).await? {
                show(&opened.span, &failure);
                return self.fail(opened.planned, &failure).await;
            }
        }
    }

    /// Waits before the next attempt, if the failure was not caused by the letter.
    async fn is_to_be_tried_again(
        &self,
        failure: &Failure,
        conflicts: &mut u32,
    ) -> Result<bool, Stop> {
        match failure.class() {
            Class::Permanent | Class::Transient => return Ok(false),
            Class::Unavailable => {
                let probed = self.replayer.database.probe(Instant::now().into()).await;
                ensure_running(probed != ProbeResult::Shutdown)?;
            }
            Class::Conflict => {}
        }
        *conflicts += 1;
        if *conflicts > CONFLICTS {
            // The letter does not cause an unavailable dependency.
            if failure.class() == Class::Unavailable || failure.is_refusal() {
                return Err(Stop::Pause(format!("it can't go on: {failure}")));
            }
            return Ok(false);
        }
        let wait = tokio::time::sleep(Options::conflict_backoff(*conflicts));
        ensure_running(self.holds.run_until_cancelled(wait).await.is_some())?;
        Ok(true)
    }

    /// Rehearses the letters of one key, in their order. After one that fails the later ones are
    /// held.
    async fn rehearse_key(&mut self, mut opened: &[OpenedLetter]) -> Result<(), Stop> {
        // A loop: recursion for each letter that is not an event would overflow the stack, because
        // a key may have thousands of them.
        loop {
            ensure_running(!self.holds.is_cancelled())?;
            let (outcomes, failure) = self.rehearse_events(opened).await?;
            let (rehearsed, rest) = opened.split_at(outcomes.len());
            if !rehearsed.is_empty() {
                self.settled(rehearsed, &outcomes).await?;
            }
            let [first, behind @ ..] = rest else { return Ok(()) };
            match (&failure, &first.content) {
                (Some(failure), _) | (None, Content::Unreadable(failure)) => {
                    self.fail(first.planned, failure).await?;
                }
                _ => self.ignore(first.planned).await?,
            }
            if self.plan.held.contains(&first.planned.key) {
                let behind: Vec<_> = behind.iter().map(|it| it.planned).collect();
                return self.hold(&behind).await;
            }
            opened = behind;
        }
    }

    /// Rehearses the events before the first letter that is not one, in one transaction. Returns
    /// the outcomes of those before the first failure, and the failure.
    async fn rehearse_events(
        &self,
        opened: &[OpenedLetter],
    ) -> Result<(Vec<Outcome>, Option<Failure>), Stop> {
        let messages: Vec<_> = opened.iter().map_while(message).collect();
        if messages.is_empty() {
            return Ok((Vec::new(), None));
        }
        let mut conflicts = 0;
        loop {
            let rehearsing = self.replayer.attempts.rehearse_in_turn(&messages, self.holds);
            let (outcomes, failure) = rehearsing.await;
            ensure_running(!self.holds.is_cancelled())?;
            match failure {
                Some(failure) if self.is_to_be_tried_again(&failure, &mut conflicts).await? => {}
                failure => return Ok((outcomes, failure)),
            }
        }
    }

    async fn ignore(&self, letter: PlannedLetter) -> Result<(), Stop> {
        let (pool, lease) = (&self.replayer.pool, self.claimed.lease());
        if self.claimed.rehearsal {
            let noted = [(letter.letter, Outcome::Ignored.as_str(), None)];
            return ensure_running(settling::note(pool, lease, &noted).await?);
        }
        let replaying = Replaying { lease, letters: &[letter.letter] };
        let ignored = pg::bounded(async {
            let mut tx = pool.begin().await?;
            let runs = settling::settle(&mut tx, &replaying, &[Outcome::Ignored]).await?;
            if runs {
                tx.commit().await?;
            }
            Ok(runs)
        });
        ensure_running(ignored.await?)
    }

    async fn fail(&mut self, letter: PlannedLetter, failure: &Failure) -> Result<(), Stop> {
        self.failed += 1;
        self.plan.held.insert(letter.key);
        let Replayer { pool, attempts, options, .. } = self.replayer;
        let (lease, why) = (self.claimed.lease(), LetterReason::from(failure));
        let noted = if self.claimed.rehearsal {
            let noted = [(letter.letter, "failed", Some(why.reason.message))];
            settling::note(pool, lease, &noted).await?
        } else {
            let (group, max) = (&attempts.group, options.max_replays);
            settling::fail(pool, lease, group, letter.letter, &why, max).await?
        };
        ensure_running(noted)
    }

    async fn hold(&self, letters: &[PlannedLetter]) -> Result<(), Stop> {
        if letters.is_empty() {
            return Ok(());
        }
        let noted: Vec<_> = letters.iter().map(|it| (it.letter, "held", None)).collect();
        ensure_running(settling::note(&self.replayer.pool, self.claimed.lease(), &noted).await?)
    }
}

fn message(opened: &OpenedLetter) -> Option<&Message> {
    match &opened.content {
        Content::Event(message) => Some(message),
        Content::Ignored | Content::Unreadable(_) | Content::Buried => None,
    }
}

/// Records in the span of a letter that it failed again.
fn show(span: &Span, failure: &Failure) {
    span.record("outcome", "failed");
    span.record("error", failure as &dyn std::error::Error);
}

fn log(failure: &Failure, record: &Record) {
    tracing::warn!(
        error = failure as &dyn std::error::Error,
        class = ?failure.class(),
        topic = record.topic,
        partition = record.partition,
        offset = record.offset,
        "replay of a dead letter failed"
    );
}
