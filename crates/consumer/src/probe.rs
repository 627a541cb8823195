//! Probes open circuit breakers with a message at intervals, and closes them after a success.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breakers;
use crate::keeper::Orders;
use crate::message::Queued;
use crate::pipeline::{Pipeline, TryResult};
use crate::scan::{Candidate, ScanRequest};

/// Maximum number of inconclusive messages in a probe.
const MAX_NOT_CALLED: usize = 20;

/// Interval at which each instance checks whether a probe is due.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Runs until shutdown. `scans` sends requests to the polling thread, which finds the messages.
pub(crate) async fn probe_breakers(
    orders: Orders,
    pipeline: Arc<Pipeline>,
    scans: UnboundedSender<ScanRequest>,
    shutdown: CancellationToken,
) {
    let probing = async {
        loop {
            orders.to_be_probed().await;
            match orders.breakers.claim_probe().await {
                Ok(Some(event_type)) => {
                    if let Err(error) = probe(&orders, &pipeline, &scans, event_type).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "circuit breaker not closed");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "circuit breakers not read");
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(probing).await;
}

async fn probe(
    orders: &Orders,
    pipeline: &Pipeline,
    scans: &UnboundedSender<ScanRequest>,
    event_type: String,
) -> sqlx::Result<()> {
    let breakers = &orders.breakers;
    for _ in 0..MAX_NOT_CALLED {
        let Some(queued) = find(breakers, scans, &event_type).await else {
            tracing::info!(
                event_type,
                "no message to probe on this instance, circuit breaker stays open"
            );
            return breakers.found_none(&event_type).await;
        };
        // The subscription was paused during the search.
        if orders.paused() {
            return Ok(());
        }
        match pipeline.try_one(queued).await {
            Some(TryResult::Succeeded) => return breakers.close(&event_type).await,
            Some(TryResult::NotCalled(key)) => breakers.note_tried(key),
            Some(TryResult::Failed(key)) => {
                breakers.note_tried(key);
                tracing::warn!(event_type, "probe failed, circuit breaker stays open");
                return Ok(());
            }
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Returns the message to probe, or `None` if there is none or the run has ended.
async fn find(
    breakers: &Breakers,
    scans: &UnboundedSender<ScanRequest>,
    event_type: &str,
) -> Option<Queued> {
    let (found, finding) = oneshot::channel();
    let (event_type, tried) = (event_type.to_owned(), breakers.all_tried());
    scans.send(ScanRequest { event_type, tried, found }).ok()?;
    match finding.await.ok()? {
        Candidate::Other(queued) => Some(queued),
        Candidate::Tried(queued) => {
            // All keys have failed once: start again with every key.
            breakers.forget_tried();
            Some(queued)
        }
        Candidate::None => None,
    }
}
