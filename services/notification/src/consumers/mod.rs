pub(crate) mod invoice_credited;
pub(crate) mod invoice_issued;
pub(crate) mod order_cancelled;
pub(crate) mod order_completed;

use consumer::Failure;
use jobs::EnqueueError;

/// The database decides; what can't be written as a job never can.
fn not_enqueued(error: EnqueueError) -> Failure {
    match error {
        EnqueueError::Database(error) => error.into(),
        error => Failure::permanent(error),
    }
}
