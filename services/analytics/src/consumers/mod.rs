pub(crate) mod basket;
pub(crate) mod history;
pub(crate) mod orders;
