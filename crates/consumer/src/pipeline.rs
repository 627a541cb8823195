//! The way of a message through its lane: read, attempt, carry out the verdict. All lanes of a consumer share it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::dead_letters::DeadLetters;
use crate::instruments::Instruments;
use crate::message::{Queued, Taken};
use crate::options::Options;
use crate::partitions::{InProgress, Partitions};
use crate::reader::Reader;
use crate::status::Status;
use crate::verdict::{Judge, Verdict};
use crate::wait::Wait;

pub(crate) struct Pipeline {
    pub(crate) reader: Reader,
    pub(crate) judge: Judge,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) status: Status,
    pub(crate) options: Options,
    pub(crate) instruments: Instruments,
    pub(crate) shutdown: CancellationToken,
}

/// What the lane is to do with messages after they were attempted.
pub(crate) enum Next {
    /// Nothing: they are settled, or belong to another instance by now.
    Nothing,
    /// Attempt each by itself.
    Apart(Vec<Taken>),
    /// Attempt it again after its backoff.
    Park(Box<Taken>),
}

impl Pipeline {
    /// Begins with a record: reads it, and how often it was attempted before. Returns `None` at shutdown.
    pub(crate) async fn read(&self, queued: Queued) -> Option<Taken> {
        let mut wait = Wait::new(&self.status, &self.shutdown);
        let history = loop {
            match self.reader.history(&queued).await {
                Ok(history) => break history,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no history yet");
                    if !wait.once_more().await {
                        return None;
                    }
                }
            }
        };
        Some(self.reader.read(queued, history))
    }

    /// Attempts messages that are still this instance's, and carries out the verdict as far as it is not the lane's to do.
    /// Waits while the database is unavailable.
    pub(crate) async fn attempt(&self, mut taken: Vec<Taken>) -> Next {
        let mut wait = Wait::new(&self.status, &self.shutdown);
        loop {
            tokio::select! {
                () = self.status.not_halted() => {}
                () = self.shutdown.cancelled() => return Next::Nothing,
            }
            let running = self.begin(&mut taken);
            match self.judge.judge(&mut taken).await {
                Verdict::Settled => {
                    finish(&taken, running);
                    return Next::Nothing;
                }
                Verdict::Apart => return Next::Apart(taken),
                Verdict::Retry => {
                    return taken.pop().map_or(Next::Nothing, |it| Next::Park(Box::new(it)));
                }
                Verdict::DeadLetter(reason) => {
                    if let [letter] = &*taken
                        && self.dead_letters.write_through(letter, reason, &self.shutdown).await
                    {
                        finish(&taken, running);
                    }
                    return Next::Nothing;
                }
                Verdict::Wait => {
                    // Not while waiting: a revocation must not wait for the database.
                    drop(running);
                    if !wait.once_more().await {
                        return Next::Nothing;
                    }
                }
            }
        }
    }

    /// Drops what belongs to another instance by now, and holds the rest in its partition.
    fn begin(&self, taken: &mut Vec<Taken>) -> Vec<InProgress> {
        let mut running = Vec::with_capacity(taken.len());
        taken.retain(|it| {
            let begun = self.partitions.begin(it.ticket());
            begun.map(|begun| running.push(begun)).is_some()
        });
        running
    }

    pub(crate) fn must_be_alone(&self, taken: &Taken) -> bool {
        self.judge.must_be_alone(taken)
    }

    pub(crate) fn max_batch(&self) -> usize {
        self.options.max_batch
    }

    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        self.options.backoff(retry)
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    pub(crate) fn count_parked(&self, change: i64) {
        self.instruments.parked(change);
    }

    pub(crate) fn count_retry(&self) {
        self.instruments.retried();
    }
}

fn finish(taken: &[Taken], running: Vec<InProgress>) {
    for (taken, running) in taken.iter().zip(running) {
        taken.history.settled_one();
        running.finish();
    }
}
