pub(crate) mod order_completed;
