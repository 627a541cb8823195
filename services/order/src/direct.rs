//! The old way, kept to be compared and migrated from: who completes an order waits for those who are told of it, and
//! when one of them fails or is slow, so does the request.

use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Caller, Problem};
use outbox::Prepared;

use crate::downstream::Downstream;

/// How long each of them may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Tells those that `ORDER_DIRECT` names, one after the other. The order is completed already, and its event waits in the
/// outbox too: whoever hears both has one effect.
pub(crate) async fn tell(
    downstream: &Downstream,
    caller: &Caller,
    completed: &Prepared,
) -> Result<(), Problem> {
    let flow = caller.into();
    for consumer in &downstream.addresses().direct.0 {
        let name = consumer.name();
        let sent = downstream.send(*consumer, completed, &flow);
        match tokio::time::timeout(TIME_LIMIT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a direct call failed");
                return Err(failed(StatusCode::BAD_GATEWAY, "A service failed", name));
            }
            Err(_) => {
                tracing::warn!(whom = name, limit = ?TIME_LIMIT, "a direct call took too long");
                return Err(failed(StatusCode::GATEWAY_TIMEOUT, "A service is too slow", name));
            }
        }
    }
    Ok(())
}

fn failed(status: StatusCode, title: &'static str, name: &str) -> Problem {
    Problem::new(
        status,
        title,
        format!("the order is completed, but {name} could not be told of it"),
    )
}
