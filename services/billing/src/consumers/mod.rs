pub(crate) mod order_cancelled;
pub(crate) mod order_completed;

mod issuing;

use events::{Order, OrderStatus};

/// An event whose data contradicts its type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Contradiction(&'static str);

/// Checks the order of an event. Fails if no valid invoice could result from it.
fn check(order: &Order, status: OrderStatus) -> Result<(), Contradiction> {
    if order.status != status {
        Err(Contradiction("the order has another status than its event"))
    } else if order.total <= 0 {
        Err(Contradiction("the total is not positive"))
    } else {
        Ok(())
    }
}
