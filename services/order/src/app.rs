//! The one visible list of what this service has.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use chassis::{Parts, Service};
use events::{Event, OrderCompleted, OrderCreated, OrderUpdated};

use crate::activity::{self, ActivityLog};
use crate::downstream::Downstream;
use crate::lists::Lists;
use crate::{Config, api};

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) parts: Parts,
    pub(crate) downstream: Downstream,
    pub(crate) lists: Lists,
}

/// The service, not yet started; the binary and the tests call it alike.
pub fn build(config: Config) -> Service {
    let Config { chassis, downstream, activity_retention } = config;
    Service::new("order", chassis)
        .ports(8081, 9181)
        .requires(downstream.check())
        .migrations(sqlx::migrate!())
        .publishes(&[OrderCreated::TYPE, OrderUpdated::TYPE, OrderCompleted::TYPE])
        .on_served(|parts| {
            let log = ActivityLog::new(parts.pool.clone());
            move |defer, served| log.note(defer, served)
        })
        .task("prune the activity log", Duration::from_mins(10), move |pool| {
            activity::prune(pool, activity_retention)
        })
        .routes(move |parts| {
            let downstream = Downstream::new(downstream);
            Router::new()
                .route("/orders", post(api::place).get(api::list))
                .route("/orders/{id}", get(api::read).patch(api::update))
                .route("/orders/{id}/complete", post(api::complete))
                .with_state(App { parts: parts.clone(), downstream, lists: Lists::new() })
        })
}
