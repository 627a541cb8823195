//! Direct calls, kept for comparison and migration: a request that completes or cancels an order
//! waits for the called services, and is slow or fails if one of them is.

use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Caller, Problem};
use outbox::Prepared;

use crate::downstream::Downstream;

/// Time limit of each call.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The change of the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Completed,
    Cancelled,
}

/// Calls the services in `ORDER_DIRECT` one after the other. The order is already completed or
/// cancelled, and its event is in the outbox as well. A consumer that receives both applies the
/// event once.
pub(crate) async fn call_consumers(
    downstream: &Downstream,
    caller: &Caller,
    done: Done,
    event: &Prepared,
) -> Result<(), Problem> {
    let flow = caller.into();
    for consumer in &downstream.addresses().direct.0 {
        let name = consumer.name();
        let sent = downstream.send(*consumer, event, &flow);
        match tokio::time::timeout(TIME_LIMIT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "direct call failed");
                return Err(failed(StatusCode::BAD_GATEWAY, "Bad gateway", done, name));
            }
            Err(_) => {
                tracing::warn!(whom = name, limit = ?TIME_LIMIT, "direct call timed out");
                return Err(failed(StatusCode::GATEWAY_TIMEOUT, "Gateway timeout", done, name));
            }
        }
    }
    Ok(())
}

fn failed(status: StatusCode, title: &'static str, done: Done, name: &str) -> Problem {
    let done = match done {
        Done::Completed => "completed",
        Done::Cancelled => "cancelled",
    };
    Problem::new(
        status,
        title,
        format!(
            "the order is {done}, but {name} did not process the event; it receives the event through Kafka if it subscribes"
        ),
    )
}
