//! Describes the interfaces of a service, from the same lists that it is started from.

mod http;

use std::collections::BTreeSet;

use consumer::Subscription;
use kafka::TopicSpec;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::events::direct_feed;
use crate::service::{Parts, Service};
use crate::{Config, ConfigError};

/// The interfaces of a service: its HTTP interface as an OpenAPI document, and the events that it
/// publishes and consumes.
#[derive(Clone, Debug)]
pub struct ServiceDescription {
    /// Name of the service.
    pub service: &'static str,
    /// The public HTTP interface, an OpenAPI 3.1 document.
    pub http: Value,
    /// Topics that the service publishes to, and owns.
    pub publishes: Vec<TopicSpec>,
    /// Subscriptions that consume events.
    pub subscriptions: Vec<Subscribed>,
}

/// A subscription of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// Consumer group, without the prefix.
    pub group: String,
    /// Pairs of a topic, without the prefix, and an event type that is handled from it.
    pub handles: BTreeSet<(&'static str, &'static str)>,
}

impl Service {
    /// Returns the interfaces of the service without starting it. Connects to nothing, but needs a
    /// Tokio runtime, as a connection pool does.
    ///
    /// # Errors
    /// Fails if the database's URL is missing or malformed.
    pub fn describe(self) -> Result<ServiceDescription, ConfigError> {
        let parts = Parts::unconnected(&self.config)?;
        let routes = self.routes.into_iter().map(|build| build(&parts));
        let mut routes = routes.fold(OpenApiRouter::new(), OpenApiRouter::merge);
        let subscriptions: Vec<_> = self
            .subscriptions
            .into_iter()
            .map(|(build, _)| Subscribed::from(&build(&parts)))
            .collect();
        if !subscriptions.is_empty() {
            routes = routes.merge(direct_feed::routes(Vec::new()));
        }
        let http = http::document(self.name, self.public_port, routes.to_openapi());
        Ok(ServiceDescription {
            service: self.name,
            http,
            publishes: self.publishes,
            subscriptions,
        })
    }
}

impl Parts {
    /// Creates parts that have not connected to anything.
    fn unconnected(config: &Config) -> Result<Self, ConfigError> {
        let pool = pg::PoolOptions::new("contract").connect_lazily(config.database()?);
        let (wake, jobs) = (outbox::RelayWaker::default(), jobs::WorkerWaker::default());
        Ok(Self { pool, wake, jobs, metrics: telemetry::Metrics::new("contract") })
    }
}

impl From<&Subscription> for Subscribed {
    fn from(subscription: &Subscription) -> Self {
        Self { group: subscription.group(), handles: subscription.handles() }
    }
}
