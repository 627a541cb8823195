//! The contract with an event type as `make new-event` writes it, and the contract's own tests.

include!(concat!(env!("OUT_DIR"), "/shop/crates/events/src/lib.rs"));

mod contract {
    include!(concat!(env!("OUT_DIR"), "/shop/crates/events/tests/schemas.rs"));
}
