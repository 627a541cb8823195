use std::sync::Arc;

use tokio::sync::watch;

/// How a subscription fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It consumes, or has nothing to.
    Running,
    /// A dead letter can't be written, so nothing is consumed: nothing may be lost.
    Halted,
    /// The database is away; messages wait.
    Waiting,
    /// It has ended.
    Stopped,
}

/// What health and metrics ask. Clones share it.
#[derive(Clone, Debug)]
pub struct Status {
    halts: Arc<watch::Sender<usize>>,
    waits: Arc<watch::Sender<usize>>,
    stopped: Arc<watch::Sender<bool>>,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            halts: Arc::new(watch::Sender::new(0)),
            waits: Arc::new(watch::Sender::new(0)),
            stopped: Arc::new(watch::Sender::new(false)),
        }
    }

    /// The most serious one that holds.
    pub fn state(&self) -> State {
        if *self.stopped.borrow() {
            State::Stopped
        } else if *self.halts.borrow() > 0 {
            State::Halted
        } else if *self.waits.borrow() > 0 {
            State::Waiting
        } else {
            State::Running
        }
    }

    /// Halted until the guard is dropped.
    pub(crate) fn halt(&self) -> Held {
        Held::new(Arc::clone(&self.halts))
    }

    /// Waiting for the database until the guard is dropped.
    pub(crate) fn wait(&self) -> Held {
        Held::new(Arc::clone(&self.waits))
    }

    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Returns when nothing is halted.
    pub(crate) async fn not_halted(&self) {
        // The sender lives in `self`, so this can't fail.
        let _ = self.halts.subscribe().wait_for(|halts| *halts == 0).await;
    }
}

/// Holds a state while it lives.
pub(crate) struct Held(Arc<watch::Sender<usize>>);

impl Held {
    fn new(count: Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
