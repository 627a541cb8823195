//! The old way, kept to be compared and migrated from: who completes or cancels an order waits for those who are told of
//! it, and when one of them fails or is slow, so does the request.

use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Caller, Problem};
use outbox::Prepared;

use crate::downstream::Downstream;

/// How long each of them may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// What was done to the order that consumers are told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Completed,
    Cancelled,
}

/// Tells those that `ORDER_DIRECT` names, one after the other. The order is completed or cancelled already, and its event
/// waits in the outbox too: a consumer of both has one effect.
pub(crate) async fn tell(
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
