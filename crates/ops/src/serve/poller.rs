//! Polls the services and Kafka every 5 s, in separate tasks, so that a slow one does not delay the
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Settings;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::service_state::ServiceState;
use crate::client::Client;
use crate::error::with_cause;
use crate::lag::{Lag, Meter, STALLED_AFTER, Subscribed, Wanted};

pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Maximum age of polled data. Older data counts as missing.
const FRESH_FOR: Duration = Duration::from_secs(30);

/// Polled data, and when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Polled<T> {
    answer: T,
    at: Instant,
}

impl<T> Polled<T> {
    pub(crate) fn new(answer: T) -> Self {
        Self { answer, at: Instant::now() }
    }

    /// Returns the data, unless it is too old.
    pub(crate) fn fresh(&self) -> Option<&T> {
        (self.at.elapsed() < FRESH_FOR).then_some(&self.answer)
    }
}

/// The states of all services. `None` before the first responses.
pub(crate) type Services = Option<Polled<Vec<ServiceState>>>;
/// The lag, or the reason why it was not measured. `None` before the first measurement.
pub(crate) type Measured = Option<Polled<Result<Lag, String>>>;

/// Polls all services until all receivers are dropped.
pub(crate) async fn poll_services(clients: Vec<Client>, states: watch::Sender<Services>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !states.is_closed() {
        ticks.tick().await;
        let asked: Vec<_> = clients
            .iter()
            .cloned()
            .map(|client| tokio::spawn(async move { Box::pin(ServiceState::ask(&client)).await }))
            .collect();
        let mut answers = Vec::new();
        for answer in asked {
            answers.extend(answer.await);
        }
        states.send_replace(Some(Polled::new(answers)));
    }
}

/// Measures lag until all receivers are dropped.
pub(crate) async fn poll_lag(
    settings: Settings,
    clients: Vec<Client>,
    services: watch::Receiver<Services>,
    measured: watch::Sender<Measured>,
) {
    let mut meter = Meter::new(settings, STALLED_AFTER);
    let (mut known, mut was_measured) = (KnownSubscriptions::default(), true);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !measured.is_closed() {
        ticks.tick().await;
        known.update(&services.borrow());
        let (subscribed, listed) = (known.all(), known.services());
        let wanted = Wanted { subscribed, listed, ..Wanted::of(&clients) };
        let lag = meter.measure(&Arc::new(wanted)).await;
        if lag.is_ok() != was_measured {
            was_measured = lag.is_ok();
            match &lag {
                Ok(_) => tracing::info!("lag measured again"),
                Err(error) => tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "lag not measured, retrying"
                ),
            }
        }
        let lag = lag.map_err(|error| with_cause(&error));
        measured.send_replace(Some(Polled::new(lag)));
    }
}

/// The subscriptions that each service listed last, so that the groups of an unavailable service
/// are known.
#[derive(Default)]
struct KnownSubscriptions(BTreeMap<String, Vec<Subscribed>>);

impl KnownSubscriptions {
    fn update(&mut self, services: &Services) {
        for state in services.iter().flat_map(|it| &it.answer) {
            if let Some(subscribed) = &state.subscribed {
                self.0.insert(state.service.clone(), subscribed.clone());
            }
        }
    }

    fn services(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    fn all(&self) -> Vec<Subscribed> {
        self.0.values().flatten().cloned().collect()
    }
}
