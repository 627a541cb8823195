pub(crate) mod order_cancelled;
pub(crate) mod order_completed;

mod issuing;

use events::{Order, OrderStatus};

/// An event that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Contradiction(&'static str);

/// Checks what an event says of its order, which would make no sound invoice otherwise.
fn check(order: &Order, status: OrderStatus) -> Result<(), Contradiction> {
    if order.status != status {
        Err(Contradiction("the order has another status than its event"))
    } else if order.total <= 0 {
        Err(Contradiction("the total is not positive"))
    } else {
        Ok(())
    }
}
