//! The environment of one fault: the running system, the load, and facts that the checks have to
//! know.

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
use super::topics::{self, RecordPosition};

/// Time limit of things that have to happen soon.
const SOON: Duration = Duration::from_secs(30);

/// Everything that a fault can act on.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) system: System,
    pub(crate) order: Instance,
    pub(crate) billing: Instance,
    pub(crate) notification: Instance,
    pub(crate) analytics: Instance,
    /// Receivers of notification's e-mails and webhooks.
    pub(crate) receivers: Receivers,
    /// Further instances that run at the end.
    pub(crate) others: Vec<Instance>,
    pub(crate) load: Load,
    /// Orders that were written to the database directly.
    pub(crate) written: Vec<Placed>,
    /// Orders whose transaction was rolled back: no event of them may exist.
    pub(crate) never: Vec<Uuid>,
    /// Positions of records that must become dead letters.
    pub(crate) poison: HashSet<RecordPosition>,
    /// The deleted topic with its records.
    pub(crate) deleted: Option<DeletedTopic>,
    /// `true` if valid records may be dead-lettered, too. They are replayed at the end.
    pub(crate) dead_by_chance: bool,
    /// Shutdown times of instances that were terminated during the fault. `None`: one did not end
    /// in time.
    pub(crate) endings: Vec<Option<Duration>>,
    /// Time at which the fault was healed.
    healed: Option<Instant>,
}

impl Scene {
    /// Starts the services, order and billing with the fault's settings, and starts the load once
    /// billing consumes.
    pub(crate) async fn set(system: System, fault: &Fault) -> Result<Self, Error> {
        // Before ports are chosen that are free at that moment.
        let receivers = Receivers::start().await?;
        // One after the other, so that the existing topics do not depend on which service starts
        // first.
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
        let to_receivers = receivers.environment();
        let to_receivers = to_receivers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let notification = system.instance("notification", of_notification, &to_receivers).await?;
        receivers.register(&notification).await?;
        let analytics = system.instance("analytics", of_analytics, &[]).await?;
        // Billing finds its topics only after a while, and a fault has no effect on an idle
        // service.
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

    /// Records that the fault is healed: the time to catch up counts from here.
    pub(crate) fn healed(&mut self) {
        self.healed = Some(Instant::now());
    }

    pub(crate) fn healed_at(&self) -> Instant {
        self.healed.unwrap_or_else(Instant::now)
    }

    /// Waits until this number of further orders was accepted. Fails if none is accepted for a
    /// while.
    pub(crate) async fn orders(&self, more: usize) -> Result<(), Error> {
        let mut taken = self.load.taken();
        let wanted = taken + more;
        while taken < wanted {
            let another = async || self.load.taken() > taken;
            if !soon(another).await {
                return Err(format!(
                    "no order was accepted, and {} more were expected",
                    wanted - taken
                )
                .into());
            }
            taken = self.load.taken();
        }
        Ok(())
    }

    /// Slows every handler of billing down, so that a backlog grows.
    pub(crate) async fn slow_billing(&self, millis: u64) -> Result<(), Error> {
        Ok(self.billing.set_fault(slow(millis)).await?)
    }

    pub(crate) async fn quick_billing(&self) -> Result<(), Error> {
        Ok(self.billing.set_fault(Value::Null).await?)
    }

    /// Returns all running instances.
    pub(crate) fn instances(&mut self) -> Vec<&mut Instance> {
        let each =
            [&mut self.order, &mut self.billing, &mut self.notification, &mut self.analytics];
        each.into_iter().chain(&mut self.others).collect()
    }
}

fn slow(millis: u64) -> Value {
    json!({ "kind": "slow", "delay_ms": millis })
}

/// Repeats a check until it succeeds, at most [`SOON`]. Returns `false` if it never did.
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
