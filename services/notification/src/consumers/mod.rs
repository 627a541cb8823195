pub(crate) mod invoice_issued;
pub(crate) mod order_completed;
