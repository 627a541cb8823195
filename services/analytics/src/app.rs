//! What analytics is made of.

use chassis::Service;
use consumer::{Options, Subscription};
use events::{InvoiceIssued, OrderCompleted, OrderCreated, OrderUpdated};

use crate::consumers::basket::Fill;
use crate::consumers::history::Note;
use crate::consumers::orders::Project;
use crate::{Config, api};

/// The one list of analytics' subscriptions and routes.
pub fn build(config: Config) -> Service {
    let (served, sound) = config.served();
    let mut service = Service::new("analytics", config.chassis).requires(sound);
    for generation in config.basket_generations {
        service = service.subscription_with(beside(), move |_| {
            Subscription::new("analytics.basket")
                .generation(generation.into())
                .each_once(Fill { generation: generation.into() })
        });
    }
    service
        .ports(8084, 9184)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription(|_| {
            Subscription::new("analytics")
                .latest_wins(Project::<OrderCreated>::new())
                .latest_wins(Project::<OrderUpdated>::new())
                .latest_wins(Project::<OrderCompleted>::new())
        })
        .subscription_with(beside(), |_| {
            Subscription::new("analytics.history")
                .each_once(Note::<OrderCreated>::new())
                .each_once(Note::<OrderUpdated>::new())
                .each_once(Note::<OrderCompleted>::new())
                .each_once(Note::<InvoiceIssued>::new())
        })
        .routes(move |parts| api::routes(parts.pool.clone(), served.into()))
}

/// For what is beside the numbers. All lanes of a service and its routes share its connections, and one that catches up
/// with weeks of history must leave the others theirs.
fn beside() -> Options {
    Options { lanes: 2, ..Options::default() }
}
