//! Processes messages of a lane: decode, attempt, carry out the verdict. All lanes of a consumer
//! share it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breakers, CountResult};
use crate::database::{Database, ProbeResult};
use crate::failure::Class;
use crate::instruments::Instruments;
use crate::letters::{Graveyard, LetterReason};
use crate::message::{KeyHash, Queued, Taken};
use crate::options::Options;
use crate::partitions::{InProgress, Partitions};
use crate::place::{Place, Places};
use crate::reader::Reader;
use crate::status::Status;
use crate::verdict::{Judge, Verdict};

/// Maximum number of immediate attempts after a recovery of the database.
const RECOVERIES: u32 = 2;

/// How long a message waits that can't become a dead letter now, because its subscription is
/// stopped or the database is unavailable.
const WITHHELD: Duration = Duration::from_secs(1);

/// The wait before the history of a partition is read again.
const READ_AGAIN: Duration = Duration::from_millis(250);

pub(crate) struct Pipeline {
    pub(crate) reader: Reader,
    pub(crate) judge: Judge,
    pub(crate) graveyard: Graveyard,
    pub(crate) database: Database,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) status: Status,
    pub(crate) options: Options,
    pub(crate) instruments: Instruments,
    /// Limits of concurrent attempts at parked keys: one for keys whose first message had no
    /// conflict alone yet, and one for those with a known conflict. Otherwise the former would wait
    /// behind the latter.
    pub(crate) aside: Semaphore,
    pub(crate) aside_again: Semaphore,
    pub(crate) places: Places,
    pub(crate) shutdown: CancellationToken,
}

/// Next step of the lane for messages after an attempt.
pub(crate) enum Next {
    /// No step: the messages are settled, or their partition was revoked.
    Nothing,
    /// Attempts each message alone.
    Apart(Vec<Taken>),
    /// Attempts each message alone, outside the lane.
    Aside(Vec<Taken>),
    /// Retries the message after this time; other keys continue.
    Park(Box<Taken>, Duration),
}

/// Result of decoding a record.
pub(crate) enum Read {
    /// The decoded message, with the number of earlier attempts.
    Taken(Box<Taken>),
    /// The partition was revoked.
    Revoked,
    /// Shutdown interrupted the decoding.
    Shutdown,
}

/// Result of [`Pipeline::try_one`].
pub(crate) enum TryResult {
    Succeeded,
    /// The handler was not called, because the message is a duplicate or not an event. The probe is
    /// inconclusive.
    NotCalled(KeyHash),
    Failed(KeyHash),
}

impl Pipeline {
    /// Decodes a record and reads its history. Waits while the database is unavailable. Leaves
    /// `place` before it uses the database.
    pub(crate) async fn read(&self, queued: Queued, place: &mut Option<Place>) -> Read {
        if !self.reader.knows_history(&queued) {
            *place = None;
        }
        let mut shown = None;
        loop {
            // Reading the history claims the partition for this instance.
            if !self.partitions.has(&queued.ticket) {
                return Read::Revoked;
            }
            // No position yet means that this record is the first.
            let position = self.partitions.position(queued.ticket.assignment().partition);
            match self.reader.history(&queued, position.unwrap_or(queued.record.offset)).await {
                Ok(history) => return Read::Taken(Box::new(self.reader.read(queued, history))),
                Err(error) => {
                    if shown.is_none() {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "attempts of a partition not read, retrying");
                    }
                    shown = Some(self.status.wait(error.to_string()));
                    let probed = self.probe().await;
                    let wait = self.shutdown.run_until_cancelled(sleep(READ_AGAIN));
                    if probed == ProbeResult::Shutdown || wait.await.is_none() {
                        return Read::Shutdown;
                    }
                }
            }
        }
    }

    /// Attempts messages whose partition is still assigned, and carries out the verdict. Returns
    /// the next step of the lane. Waits while the database is unavailable. Keeps its place in
    /// `kept` if a further attempt `continues` with it at once, unless others wait for one.
    pub(crate) async fn attempt(
        &self,
        mut taken: Vec<Taken>,
        kept: &mut Option<Place>,
        continues: bool,
    ) -> Next {
        let mut recovered = 0;
        loop {
            tokio::select! {
                // After a shutdown nothing starts: a later message of a key must not be processed
                // without an earlier one.
                biased;
                () = self.shutdown.cancelled() => return Next::Nothing,
                () = self.status.not_halted() => {}
                () = leave_and_wait(kept) => {}
            }
            let place = match kept.take() {
                Some(place) => Some(place),
                None => self.shutdown.run_until_cancelled(self.places.take()).await,
            };
            let Some(mut place) = place else { return Next::Nothing };
            place.chain.continues = continues;
            let begun = self.begin(&mut taken);
            let judged = self.judge.judge(&mut taken, &mut place.chain).await;
            *kept = self.places.keep(place, &judged);
            let failure = match judged {
                Verdict::Unavailable(failure) => failure,
                verdict => return self.carry_out(verdict, taken, begun).await,
            };
            // Released before waiting: a revocation must not wait for the database.
            drop(begun);
            match self.probe().await {
                // These messages may cause the failure of the server: next time, others go first.
                ProbeResult::Recovered if recovered < RECOVERIES => recovered += 1,
                ProbeResult::Shutdown => return Next::Nothing,
                ProbeResult::Recovered | ProbeResult::Sound => {
                    let begun = self.begin(&mut taken);
                    let verdict = match &mut *taken {
                        [one] => self.judge.judge_conflict(one, failure).await,
                        _ => Verdict::Aside,
                    };
                    return self.carry_out(verdict, taken, begun).await;
                }
            }
        }
    }

    async fn probe(&self) -> ProbeResult {
        // Boxed, since it is rare, and would make every attempt's future larger.
        Box::pin(self.database.probe(Instant::now())).await
    }

    async fn carry_out(
        &self,
        verdict: Verdict,
        mut taken: Vec<Taken>,
        begun: Vec<InProgress>,
    ) -> Next {
        match verdict {
            Verdict::Settled => {
                finish(&taken, begun);
                Next::Nothing
            }
            Verdict::Apart => Next::Apart(taken),
            Verdict::Aside | Verdict::Unavailable(_) => Next::Aside(taken),
            Verdict::RetryIn(wait) => {
                taken.pop().map_or(Next::Nothing, |it| Next::Park(Box::new(it), wait))
            }
            Verdict::Exhausted(failure) => {
                let Some(letter) = taken.first() else { return Next::Nothing };
                match self.breakers.count(letter, &failure).await {
                    Ok(CountResult::Letter) => self.bury(&(&failure).into(), taken, begun).await,
                    Ok(CountResult::Open) => withhold(taken),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "message not counted by the circuit breaker, its dead letter waits"
                        );
                        withhold(taken)
                    }
                }
            }
            Verdict::DeadLetter(why) => self.bury(&why, taken, begun).await,
        }
    }

    /// Dead-letters a message. If the letter can't be written, the message is attempted again,
    /// which probes the database.
    async fn bury(&self, why: &LetterReason, taken: Vec<Taken>, begun: Vec<InProgress>) -> Next {
        let Some(letter) = taken.first() else { return Next::Nothing };
        match self.graveyard.bury(letter, why).await {
            Ok(()) => {
                finish(&taken, begun);
                Next::Nothing
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "dead letter not written, retrying its message");
                withhold(taken)
            }
        }
    }

    /// Probes a message while the subscription is stopped. Returns `None` if its partition was
    /// revoked or the database is unavailable.
    pub(crate) async fn try_one(&self, queued: Queued) -> Option<TryResult> {
        let Read::Taken(taken) = self.read(queued, &mut None).await else { return None };
        let _begun = self.partitions.begin(taken.ticket())?;
        let _place = self.places.take().await;
        match self.judge.try_one(&taken).await {
            Ok(true) => Some(TryResult::Succeeded),
            Ok(false) => Some(TryResult::NotCalled(taken.key_hash())),
            Err(failure) if failure.class() == Class::Unavailable => None,
            Err(_) => Some(TryResult::Failed(taken.key_hash())),
        }
    }

    /// Drops messages of revoked partitions, and marks the others as running.
    fn begin(&self, taken: &mut Vec<Taken>) -> Vec<InProgress> {
        let mut begun = Vec::with_capacity(taken.len());
        taken.retain(|it| {
            let held = self.partitions.begin(it.ticket());
            held.map(|held| begun.push(held)).is_some()
        });
        begun
    }
}

/// Leaves a place and never returns: for a `select!` that waits for something else.
async fn leave_and_wait(kept: &mut Option<Place>) {
    *kept = None;
    std::future::pending::<()>().await;
}

/// Postpones the dead letter of a message whose retries are used up.
fn withhold(mut taken: Vec<Taken>) -> Next {
    taken.pop().map_or(Next::Nothing, |it| Next::Park(Box::new(it), WITHHELD))
}

fn finish(taken: &[Taken], begun: Vec<InProgress>) {
    for (taken, begun) in taken.iter().zip(begun) {
        taken.history.settled_one();
        begun.finish();
    }
}
