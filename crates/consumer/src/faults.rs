//! Faults on demand, for a visit: so that a failure and its repair can be seen without breaking code.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What goes wrong in a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The handler fails for good.
    Permanent,
    /// The handler fails, and might not the next time.
    Transient,
    /// The handler takes longer.
    Slow,
}

/// What goes wrong, and how often.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// In which share of the attempts, 0 to 1.
    #[serde(default = "always")]
    pub rate: f64,
    /// How much longer a slow handler takes, in milliseconds.
    #[serde(default = "a_second")]
    pub delay_ms: u64,
    /// Message of the failure. `None`: that it was made on purpose.
    #[serde(default)]
    pub reason: Option<String>,
    /// The event type that it is limited to. `None`: any.
    #[serde(default)]
    pub event_type: Option<String>,
}

impl Fault {
    /// Creates a fault of every attempt at events of any type. A slow one takes a second longer.
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

/// The fault made in a subscription, if one is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<RwLock<Option<Fault>>>);

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.as_deref().unwrap_or("this subscription is broken on purpose: see PUT /faults"))]
struct OnPurpose(Option<String>);

impl Faults {
    /// From now on; none heals.
    pub fn set(&self, fault: Option<Fault>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What is set.
    pub fn current(&self) -> Option<Fault> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn any(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Fails or waits, if that is what is set for one of these types and chance has it so.
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
