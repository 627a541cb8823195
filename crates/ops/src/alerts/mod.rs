//! Alerts for systems without Prometheus: the same rules, evaluated by `orderflow serve` and sent
//! as signed webhooks.
//!
//! A rule has the name, the threshold and the times of its counterpart in
//! `deploy/prometheus/rules.yml`, and a test compares them. Burn rates of the SLO need days of
//! history, so only Prometheus evaluates those.

mod conditions;
mod post;
mod rule;
mod tracker;
mod webhook;

pub(crate) use conditions::{Observed, conditions, is_unknown, of_lag};
pub use rule::{ARRIVING_FOR, NEW_FOR, RULES, Rule};
pub(crate) use tracker::{Active, Subject, Tracker};
pub(crate) use webhook::{Target, Webhook};
