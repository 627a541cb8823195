use std::sync::Arc;
use std::time::Duration;

use kafka::Settings;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::group_lag::Lag;
use super::measurement::{LIMIT, Measuring};
use super::subscribed::Wanted;
use crate::error::Error;

/// Measures lag. Adds what needs several measurements: rates, and groups without progress.
pub(crate) struct Meter {
    settings: Settings,
    patience: Duration,
    /// `None` while a measurement is running.
    idle: Option<Measuring>,
    /// A measurement that exceeded its time limit. Kafka's client blocks and can't be interrupted.
    late: Option<JoinHandle<(Measuring, Result<Lag, Error>)>>,
}

impl Meter {
    /// Creates a meter for which a group with members is stalled after `patience` without progress.
    pub(crate) fn new(settings: Settings, patience: Duration) -> Self {
        let idle = Some(Measuring::new(settings.clone(), patience));
        Self { settings, patience, idle, late: None }
    }

    /// Measures the lag of all groups. Fails within 20 s if Kafka does not answer.
    pub(crate) async fn measure(&mut self, wanted: &Arc<Wanted>) -> Result<Lag, Error> {
        if self.late.as_ref().is_some_and(|it| !it.is_finished()) {
            return Err(late());
        }
        if let Some(ended) = self.late.take() {
            self.idle = ended.await.ok().map(|(measuring, _)| measuring);
        }
        let fresh = || Measuring::new(self.settings.clone(), self.patience);
        let mut measuring = self.idle.take().unwrap_or_else(fresh);
        let (wanted, runtime) = (Arc::clone(wanted), Handle::current());
        let mut running = tokio::task::spawn_blocking(move || {
            let measured = measuring.measure(&wanted, &runtime);
            (measuring, measured)
        });
        match tokio::time::timeout(LIMIT, &mut running).await {
            Ok(Ok((measuring, measured))) => {
                self.idle = Some(measuring);
                measured
            }
            Ok(Err(panicked)) => Err(Error::Refused(format!("the measurement ended: {panicked}"))),
            Err(_) => {
                self.late = Some(running);
                Err(late())
            }
        }
    }
}

impl Drop for Meter {
    /// Moves the drop to another thread, because Kafka's clients wait for their threads.
    fn drop(&mut self) {
        if let (Some(measuring), Ok(runtime)) = (self.idle.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(measuring));
        }
    }
}

fn late() -> Error {
    use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
    let source = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
    Error::Kafka { doing: format!("measure lag within {LIMIT:?}"), source }
}
