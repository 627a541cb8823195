//! Webhooks of tenants: registrations, deliveries, and the job that delivers.

mod addresses;
mod api;
mod deliver_webhook;
mod deliveries;
mod delivery_list;
mod health;
mod redelivery;
mod retry_after;
mod secrets;
mod target;
mod webhook_events;
mod webhooks;

pub(crate) use addresses::Guard;
pub(crate) use api::{WebhookApi, routes};
pub(crate) use deliver_webhook::Delivering;
pub(crate) use deliveries::write;
pub(crate) use target::Targets;

pub use addresses::Exceptions;
