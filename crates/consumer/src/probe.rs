//! While circuit breakers are open, a message is tried every so often, to close them once one succeeds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breakers;
use crate::keeper::Orders;
use crate::pipeline::{Pipeline, Tried};
use crate::scan::{Candidate, ScanRequest};

/// How often it is asked whether it is time, of whichever instance.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Runs until shutdown. `scans` reaches the polling thread, which finds the messages.
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
                    if let Err(error) = probe(&orders.breakers, &pipeline, &scans, event_type).await
                    {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "circuit breaker not closed");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "circuit breaker not asked");
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(probing).await;
}

async fn probe(
    breakers: &Breakers,
    pipeline: &Pipeline,
    scans: &UnboundedSender<ScanRequest>,
    event_type: String,
) -> sqlx::Result<()> {
    let (found, finding) = oneshot::channel();
    let request =
        ScanRequest { event_type: event_type.clone(), tried: breakers.all_tried(), found };
    // The polling thread ends with the run, and so does this.
    let Ok(()) = scans.send(request) else { return Ok(()) };
    let queued = match finding.await {
        Ok(Candidate::Other(queued)) => queued,
        Ok(Candidate::Tried(queued)) => {
            // All have failed once: the next ones are tried in turn again.
            breakers.begin_anew();
            queued
        }
        Ok(Candidate::None) | Err(_) => {
            tracing::info!(event_type, "no message to try, circuit breaker stays open");
            return Ok(());
        }
    };
    match pipeline.try_one(queued).await {
        Some(Tried::Succeeded) => breakers.close(&event_type).await?,
        Some(Tried::Failed(key)) => {
            breakers.has_tried(key);
            tracing::warn!(event_type, "tried message failed, circuit breaker stays open");
        }
        None => {}
    }
    Ok(())
}
