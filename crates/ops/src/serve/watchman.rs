//! Evaluates the rules every 5 s and sends changes.

use std::time::Instant;

use tokio::sync::watch;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;
use super::poller::{EVERY, Measured, Services};
use crate::alerts::{Active, Observed, Rule, Subject, Tracker, Webhook, conditions, is_unknown};

/// Evaluates until shutdown. Returns the webhook, which may have changes left to send.
pub(crate) async fn evaluate(
    services: watch::Receiver<Services>,
    lag: watch::Receiver<Measured>,
    firing: watch::Sender<Vec<Active>>,
    webhook: Webhook,
    shutdown: CancellationToken,
) -> Webhook {
    let (mut tracker, mut arrivals) = (Tracker::default(), Arrivals::default());
    let mut ticks = interval(EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let (services, lag) = (services.borrow().clone(), lag.borrow().clone());
        let states = services.as_ref().and_then(|it| it.fresh());
        let measured = lag.as_ref().map(|it| match it.fresh() {
            Some(Ok(lag)) => Ok(lag),
            Some(Err(why)) => Err(&**why),
            None => Err("the last measurement takes too long"),
        });
        let observed = Observed { services: states.map_or(&[], Vec::as_slice), lag: measured };
        let now = Instant::now();
        let holding = conditions(&observed, &mut arrivals, now);
        let is_unknown = |rule: &Rule, subject: &Subject| is_unknown(&observed, rule, subject);
        for change in tracker.observe(holding, is_unknown, now) {
            webhook.send(change);
        }
        firing.send_replace(tracker.firing());
    }
    webhook
}
