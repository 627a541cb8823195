pub(crate) mod invoice_credited;
pub(crate) mod invoice_issued;
pub(crate) mod order_cancelled;
pub(crate) mod order_completed;

use consumer::Failure;
use jobs::EnqueueError;

/// Classifies an error of the database as the database does. A job that can't be encoded fails for
/// good.
fn not_enqueued(error: EnqueueError) -> Failure {
    match error {
        EnqueueError::Database(error) => error.into(),
        error => Failure::permanent(error),
    }
}
