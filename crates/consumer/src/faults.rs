//! Injects faults on demand, to demonstrate failures and their repair without changing code.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Kind of an injected fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The handler fails permanently.
    Permanent,
    /// The handler fails transiently.
    Transient,
    /// The handler is delayed.
    Slow,
}

/// An injected fault and its frequency.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Share of affected attempts, 0 to 1.
    #[serde(default = "always")]
    pub rate: f64,
    /// Delay of a slow handler, in milliseconds.
    #[serde(default = "a_second")]
    pub delay_ms: u64,
    /// Message of the failure. `None` uses a text that names `PUT /faults`.
    #[serde(default)]
    pub reason: Option<String>,
    /// The affected event type. `None` affects all.
    #[serde(default)]
    pub event_type: Option<String>,
}

impl Fault {
    /// Creates a fault that affects every attempt at every event type. `Slow` adds a delay of a
    /// second.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, rate: always(), delay_ms: a_second(), reason: None, event_type: None }
    }
}

fn always() -> f64 {
    1.0
}

fn a_second() -> u64 {
    1000
}

/// The injected fault of a subscription, if any. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<RwLock<Option<Fault>>>);

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.as_deref().unwrap_or("this subscription is broken on purpose: see PUT /faults"))]
struct OnPurpose(Option<String>);

impl Faults {
    /// Sets the fault for all later attempts. `None` removes it.
    pub fn set(&self, fault: Option<Fault>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Returns the current fault.
    pub fn current(&self) -> Option<Fault> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn any(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Fails or delays an attempt, if a fault is set for one of these types, with the probability
    /// of its rate.
    pub(crate) async fn strike(
        &self,
        mut event_types: impl Iterator<Item = &str>,
    ) -> Result<(), Failure> {
        let Some(fault) = self.current().filter(|fault| fastrand::f64() < fault.rate) else {
            return Ok(());
        };
        if fault.event_type.as_deref().is_some_and(|it| event_types.all(|other| other != it)) {
            return Ok(());
        }
        match fault.kind {
            FaultKind::Permanent => Err(Failure::permanent(OnPurpose(fault.reason))),
            FaultKind::Transient => Err(Failure::transient(OnPurpose(fault.reason))),
            FaultKind::Slow => {
                tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
                Ok(())
            }
        }
    }
}
