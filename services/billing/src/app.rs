//! What billing is made of.

use chassis::Service;
use consumer::Subscription;
use events::INVOICE_ISSUED;

use crate::consumers::order_completed::IssueInvoice;
use crate::{Config, api};

/// The one list of billing's subscriptions and routes.
pub fn build(config: Config) -> Service {
    Service::new("billing", config.chassis)
        .ports(8082, 9182)
        .migrations(sqlx::migrate!("./migrations"))
        .publishes([INVOICE_ISSUED])
        .subscription(|_| Subscription::new("billing").each_once(IssueInvoice))
        .routes(|parts| api::routes(parts.pool.clone()))
}
