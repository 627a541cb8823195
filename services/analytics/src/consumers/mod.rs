pub(crate) mod orders;
