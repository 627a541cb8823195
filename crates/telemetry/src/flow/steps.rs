use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Span;

thread_local! {
    /// Buffer of the service whose span is being created on this thread.
    static RECORDING: RefCell<Option<Arc<Buffer>>> = const { RefCell::new(None) };
}

/// A finished step of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowStep {
    /// Correlation id of the flow.
    pub correlation_id: String,
    /// Id of the step's event.
    pub event_id: Option<String>,
    /// Subject of the step's event or job.
    pub subject: Option<String>,
    /// The step as a JSON object, without its correlation id. Times are microseconds: `at_us` since
    /// 1970, `duration_us`.
    pub json: String,
}

/// Records the flow steps of one service: spans that are created through it and have a correlation
/// id. Clones share the steps.
///
/// ```
/// use telemetry::FlowSteps;
/// use tracing::info_span;
///
/// let steps = FlowSteps::new(1_000);
/// let span = steps.span(|| info_span!("charge", correlation_id = "flow-17"));
/// drop(span); // a finished step, if `telemetry::init` has installed the subscriber
/// for step in steps.take(100) {
///     println!("{} {}", step.correlation_id, step.json);
/// }
/// ```
///
/// It is a value instead of a global, so that two services in one process do not mix. A deferred
/// task, whose span follows that of its request, belongs to the request's service.
#[derive(Clone, Debug, Default)]
pub struct FlowSteps(Option<Arc<Buffer>>);

impl FlowSteps {
    /// Creates a recorder that keeps at most `capacity` steps until they are [taken](Self::take).
    /// Further ones are lost and counted.
    pub fn new(capacity: usize) -> Self {
        Self(Some(Arc::new(Buffer { capacity, ..Buffer::default() })))
    }

    /// Creates a recorder that records nothing, at no cost.
    pub fn off() -> Self {
        Self(None)
    }

    /// Returns `false` if it was created by [`off`](Self::off).
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Creates a span that becomes a step when it closes, if it has a correlation id by then.
    pub fn span(&self, create: impl FnOnce() -> Span) -> Span {
        let Some(buffer) = &self.0 else { return create() };
        RECORDING.set(Some(Arc::clone(buffer)));
        let span = create();
        // It is still set if no layer records, or the span is disabled.
        RECORDING.take();
        span
    }

    /// Takes the oldest steps, at most `limit`.
    pub fn take(&self, limit: usize) -> Vec<FlowStep> {
        let Some(buffer) = &self.0 else { return Vec::new() };
        let mut steps = buffer.steps();
        let limit = limit.min(steps.len());
        let taken = steps.drain(..limit).collect();
        buffer.count.store(steps.len(), Ordering::Relaxed);
        taken
    }

    /// Puts back steps that were taken and could not be stored. The oldest ones are lost if there
    /// is no room for all.
    pub fn put_back(&self, taken: Vec<FlowStep>) {
        let Some(buffer) = &self.0 else { return };
        let mut steps = buffer.steps();
        let room = buffer.capacity.saturating_sub(steps.len());
        let too_many = taken.len().saturating_sub(room);
        buffer.lose(too_many);
        for step in taken.into_iter().skip(too_many).rev() {
            steps.push_front(step);
        }
        buffer.count.store(steps.len(), Ordering::Relaxed);
    }

    /// Removes the waiting steps that do not fulfil a condition.
    pub fn retain(&self, condition: impl FnMut(&FlowStep) -> bool) {
        let Some(buffer) = &self.0 else { return };
        let mut steps = buffer.steps();
        steps.retain(condition);
        buffer.count.store(steps.len(), Ordering::Relaxed);
    }

    /// Returns the number of steps that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.count.load(Ordering::Relaxed))
    }

    /// Counts steps as lost that were taken and can't be stored.
    pub fn lose(&self, steps: usize) {
        if let Some(buffer) = &self.0 {
            buffer.lose(steps);
        }
    }

    /// Returns the number of steps that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |buffer| buffer.lost.load(Ordering::Relaxed))
    }

    pub(super) fn buffer(&self) -> Option<&Arc<Buffer>> {
        self.0.as_ref()
    }
}

/// Steps that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    capacity: usize,
    steps: Mutex<VecDeque<FlowStep>>,
    /// Number of `steps`, readable without the lock.
    count: AtomicUsize,
    lost: AtomicU64,
}

impl Buffer {
    /// Returns the buffer of the span that is being created. Only the first call for a span returns
    /// it.
    pub(super) fn of_new_span() -> Option<Arc<Self>> {
        RECORDING.take()
    }

    /// Returns `false` if another step would be lost, so that its texts need not be built.
    pub(super) fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < self.capacity
    }

    pub(super) fn push(&self, step: FlowStep) {
        let mut steps = self.steps();
        if steps.len() >= self.capacity {
            drop(steps);
            return self.lose(1);
        }
        steps.push_back(step);
        self.count.store(steps.len(), Ordering::Relaxed);
    }

    pub(super) fn lose(&self, steps: usize) {
        self.lost.fetch_add(steps as u64, Ordering::Relaxed);
    }

    fn steps(&self) -> MutexGuard<'_, VecDeque<FlowStep>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(n: usize) -> FlowStep {
        let (event_id, subject) = (None, None);
        FlowStep { correlation_id: n.to_string(), event_id, subject, json: String::new() }
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let steps = FlowSteps::new(2);
        let buffer = steps.buffer().expect("on");
        (0..5).for_each(|n| buffer.push(step(n)));
        assert_eq!((steps.waiting(), steps.lost()), (2, 3));
        assert!(!buffer.has_room());
        assert_eq!(steps.take(10), [step(0), step(1)]);
        assert!(buffer.has_room());
    }

    #[test]
    fn steps_that_could_not_be_stored_come_first_again() {
        let steps = FlowSteps::new(3);
        let buffer = steps.buffer().expect("on");
        (0..3).for_each(|n| buffer.push(step(n)));
        let taken = steps.take(3);
        (3..5).for_each(|n| buffer.push(step(n)));
        steps.put_back(taken);
        assert_eq!(steps.take(9), [step(2), step(3), step(4)], "the oldest two are lost");
        assert_eq!(steps.lost(), 2);
    }
}
