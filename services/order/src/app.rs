//! Assembles the service.

use std::time::Duration;

use chassis::Service;
use events::{ORDER_CANCELLED, ORDER_COMPLETED, ORDER_CREATED, ORDER_UPDATED};

use crate::activity::{self, ActivityLog};
use crate::downstream::Downstream;
use crate::{Config, api};

/// Builds the service: its events, tasks and routes. The binary and the tests both call it.
pub fn build(config: Config) -> Service {
    let Config { chassis, downstream, activity_retention, cancellation } = config;
    Service::new("order", chassis)
        .ports(8081, 9181)
        .requires(downstream.check())
        .migrations(sqlx::migrate!())
        .publishes([ORDER_CREATED, ORDER_UPDATED, ORDER_COMPLETED, ORDER_CANCELLED])
        .on_completed(|parts| {
            let log = ActivityLog::new(parts.pool.clone());
            move |defer, served| log.note(defer, served)
        })
        .task("prune the activity log", Duration::from_mins(10), move |pool| {
            activity::prune(pool, activity_retention)
        })
        .routes(move |parts| api::routes(parts.clone(), Downstream::new(downstream), cancellation))
}
