//! The one visible list of what this service has.

use axum::Router;
use axum::routing::{get, post};
use chassis::Service;
use events::{Event, OrderCompleted, OrderCreated, OrderUpdated};

use crate::{Config, api};

/// The service, not yet started; the binary and the tests call it alike.
pub fn build(config: Config) -> Service {
    Service::new("order", config.chassis)
        .ports(8081, 9181)
        .migrations(sqlx::migrate!())
        .publishes(&[OrderCreated::TYPE, OrderUpdated::TYPE, OrderCompleted::TYPE])
        .routes(|parts| {
            Router::new()
                .route("/orders", post(api::place).get(api::list))
                .route("/orders/{id}", get(api::read).patch(api::update))
                .route("/orders/{id}/complete", post(api::complete))
                .with_state(parts.clone())
        })
}
