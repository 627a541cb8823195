//! Lists the parts of the billing service.

use chassis::Service;
use consumer::{Options, Subscription};
use events::{INVOICE_CREDITED, INVOICE_ISSUED};

use crate::consumers::order_cancelled::CreditInvoice;
use crate::consumers::order_completed::IssueInvoice;
use crate::{Config, api};

/// Builds the service from its subscriptions and routes.
pub fn build(config: Config) -> Service {
    Service::new("billing", config.chassis)
        .ports(8082, 9182)
        .migrations(sqlx::migrate!("./migrations"))
        .publishes([INVOICE_ISSUED, INVOICE_CREDITED])
        // Batches of one tenant take turns at its counter, so more lanes or larger batches only
        // keep more decoded messages in memory (docs/benchmarks.md, "What was tried").
        .subscription_with(Options { lanes: 4, max_batch: 200, ..Options::default() }, |_| {
            Subscription::new("billing").each_once(IssueInvoice)
        })
        // A separate subscription, so that a transaction has events of one type only, and locks the
        // counters of all its tenants at once and in order. It has few lanes: cancellations are
        // rare, and the subscriptions share the connections.
        .subscription_with(Options { lanes: 2, ..Options::default() }, |_| {
            Subscription::new("billing.credits").each_once(CreditInvoice)
        })
        .routes(|parts| api::routes(parts.pool.clone()))
}
