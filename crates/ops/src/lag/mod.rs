//! Lag of consumer groups, measured from Kafka alone, so that groups of stopped services are
//! included.

mod arguments;
mod assignment;
mod cluster;
mod command;
mod committed;
mod consumed;
mod first_records;
mod group_lag;
mod json;
mod measurement;
mod meter;
mod partition_lag;
pub(crate) mod position;
mod progress;
mod state;
mod subscribed;
mod table;
pub(crate) mod words;

pub(crate) use arguments::{KafkaArguments, client_settings};
pub(crate) use command::{Arguments, run};
pub(crate) use group_lag::{CatchUp, GroupLag, Lag};
pub(crate) use meter::Meter;
pub(crate) use state::State;
pub(crate) use subscribed::{Subscribed, Wanted};

#[cfg(test)]
pub(crate) use group_lag::tests;

use std::sync::Arc;
use std::time::Duration;

use kafka::Settings;

use crate::client::Client;
use crate::error::Error;

/// Number of messages behind above which `orderflow lag` fails and the alert `LagHigh` fires.
pub const LAG_THRESHOLD: u64 = 10_000;

/// How long a group that is behind may make no progress before it is stalled: longer than all
/// attempts and retries of a failing message take (`consumer::Options`), since the committed offset
/// stays before it meanwhile.
pub const STALLED_AFTER: Duration = Duration::from_mins(1);

/// Measures the lag of all groups once, so without rates. Fails if Kafka does not answer.
pub(crate) async fn measure(settings: Settings, services: &[Client]) -> Result<Lag, Error> {
    let (wanted, _) = subscribed::ask(services).await;
    Meter::new(settings, STALLED_AFTER).measure(&Arc::new(wanted)).await
}
