//! The stage of one fault: the running system, the load, and what the fault leaves to be known by the checks.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use playground::Ports;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::Error;
use super::deleted_topic::DeletedTopic;
use super::faults::Fault;
use super::instance::Instance;
use super::load::{Load, Placed};
use super::receivers::Receivers;
use super::system::System;
use super::topics::{self, Place};

/// How long something may take that has to happen soon.
const SOON: Duration = Duration::from_secs(30);

/// Everything that a fault can lay hands on.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) system: System,
    pub(crate) order: Instance,
    pub(crate) billing: Instance,
    pub(crate) notification: Instance,
    pub(crate) analytics: Instance,
    /// Where notification's e-mails and webhooks arrive.
    pub(crate) receivers: Receivers,
    /// Further instances; those that left before the end are not among them.
    pub(crate) others: Vec<Instance>,
    pub(crate) load: Load,
    /// Orders that were committed past the API.
    pub(crate) written: Vec<Placed>,
    /// Orders whose transaction was rolled back: nothing may be heard of them.
    pub(crate) never: Vec<Uuid>,
    /// Records that must become dead letters.
    pub(crate) poison: HashSet<Place>,
    /// The topic that was deleted, as it was before.
    pub(crate) deleted: Option<DeletedTopic>,
    /// Sound records may have become dead letters as well, and are replayed at the end.
    pub(crate) dead_by_chance: bool,
    /// How long instances took to end that were asked to meanwhile; none: they did not.
    pub(crate) endings: Vec<Option<Duration>>,
    /// When nothing was broken any more.
    healed: Option<Instant>,
}

impl Scene {
    /// Starts the services, order and billing as the fault wants them, and the load when billing is at work.
    pub(crate) async fn set(system: System, fault: &Fault) -> Result<Self, Error> {
        // One after the other: which topics there are must not hang on who was first.
        let (of_notification, of_analytics) = (Ports::free()?, Ports::free()?);
        let url = |ports: Ports| format!("http://127.0.0.1:{}", ports.http);
        let (notification, analytics) = (url(of_notification), url(of_analytics));
        let downstream = [
            ("NOTIFICATION_URL", notification.as_str()),
            ("ANALYTICS_URL", analytics.as_str()),
            ("SERVICE_KEY", "order"),
        ];
        let order = system.order(&[fault.order, &downstream].concat()).await?;
        let billing = system.billing(fault.billing).await?;
        let receivers = Receivers::start().await?;
        let to_receivers = receivers.environment();
        let to_receivers = to_receivers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let notification = system.instance("notification", of_notification, &to_receivers).await?;
        receivers.register(&notification).await?;
        let analytics = system.instance("analytics", of_analytics, &[]).await?;
        // It finds its topics only after a while, and a fault strikes nobody who does nothing.
        let settings = system.kafka();
        let at_work = async || topics::members(&settings).is_ok_and(|it| it == Some(1));
        if !soon(at_work).await {
            return Err("billing never joined its group".into());
        }
        if fault.slow_billing > 0 {
            billing.set_fault(slow(fault.slow_billing)).await?;
        }
        Ok(Self {
            load: Load::start(order.http, fault.cancels),
            order,
            billing,
            notification,
            analytics,
            receivers,
            system,
            others: Vec::new(),
            written: Vec::new(),
            never: Vec::new(),
            poison: HashSet::new(),
            deleted: None,
            dead_by_chance: false,
            endings: Vec::new(),
            healed: None,
        })
    }

    /// Nothing is broken any more: from here on the time is taken.
    pub(crate) fn healed(&mut self) {
        self.healed = Some(Instant::now());
    }

    pub(crate) fn healed_at(&self) -> Instant {
        self.healed.unwrap_or_else(Instant::now)
    }

    /// Waits until so many more orders were taken. Fails if none is taken for a while.
    pub(crate) async fn orders(&self, more: usize) -> Result<(), Error> {
        let mut taken = self.load.taken();
        let wanted = taken + more;
        while taken < wanted {
            let another = async || self.load.taken() > taken;
            if !soon(another).await {
                return Err(
                    format!("no order was taken, and {} were wanted", wanted - taken).into()
                );
            }
            taken = self.load.taken();
        }
        Ok(())
    }

    /// Makes every handler of billing so slow that a backlog grows before it.
    pub(crate) async fn slow_billing(&self, millis: u64) -> Result<(), Error> {
        Ok(self.billing.set_fault(slow(millis)).await?)
    }

    pub(crate) async fn quick_billing(&self) -> Result<(), Error> {
        Ok(self.billing.set_fault(Value::Null).await?)
    }

    /// Everything that runs, to be asked or ended.
    pub(crate) fn instances(&mut self) -> Vec<&mut Instance> {
        let each =
            [&mut self.order, &mut self.billing, &mut self.notification, &mut self.analytics];
        each.into_iter().chain(&mut self.others).collect()
    }
}

fn slow(millis: u64) -> Value {
    json!({ "kind": "slow", "delay_ms": millis })
}

/// Asks until it is true, for a while.
pub(crate) async fn soon(asked: impl AsyncFn() -> bool) -> bool {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if asked().await {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}
