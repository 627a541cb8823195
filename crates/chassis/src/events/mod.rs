//! Events by HTTP, in CloudEvents' protocol binding.

mod cloud_event;
pub(crate) mod direct_feed;

pub use cloud_event::binary_headers;
