//! What analytics is made of.

use chassis::Service;
use consumer::Subscription;
use events::{InvoiceIssued, OrderCompleted, OrderCreated, OrderUpdated};

use crate::consumers::history::Note;
use crate::consumers::orders::Project;
use crate::{Config, api};

/// The one list of analytics' subscriptions and routes.
pub fn build(config: Config) -> Service {
    Service::new("analytics", config.chassis)
        .ports(8084, 9184)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription(|_| {
            Subscription::new("analytics")
                .latest_wins(Project::<OrderCreated>::new())
                .latest_wins(Project::<OrderUpdated>::new())
                .latest_wins(Project::<OrderCompleted>::new())
        })
        .subscription(|_| {
            Subscription::new("analytics.history")
                .each_once(Note::<OrderCreated>::new())
                .each_once(Note::<OrderUpdated>::new())
                .each_once(Note::<OrderCompleted>::new())
                .each_once(Note::<InvoiceIssued>::new())
        })
        .routes(|parts| api::routes(parts.pool.clone()))
}
