//! Assembles the service.

use std::time::Duration;

use chassis::Service;
use consumer::{Options, Subscription};
use events::{
    InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted, OrderCreated, OrderUpdated,
};

use crate::consumers::basket::{BasketCancellation, BasketProjection};
use crate::consumers::history::HistoryProjection;
use crate::consumers::orders::OrderProjection;
use crate::{Config, api};

/// Number of lanes of each subscription.
const LANES: usize = 2;

/// How long a broker collects events before it sends them: statistics may be that much late, and
/// take a transaction for many events instead of one for each.
const FETCH_WAIT: Duration = Duration::from_millis(100);

/// Builds the service: its subscriptions and routes.
pub fn build(config: Config) -> Service {
    let (served, sound) = config.served();
    let mut service = Service::new("analytics", config.chassis).requires(sound);
    // All generations share these lanes, so that a second generation that catches up does not take
    // lanes from the other subscriptions.
    let lanes = LANES.div_ceil(config.basket_generations.len().max(1));
    for generation in config.basket_generations {
        service = service.subscription_with(options(lanes), move |_| {
            Subscription::new("analytics.basket")
                .generation(generation.into())
                .each_once(BasketProjection { generation: generation.into() })
                .each_once(BasketCancellation { generation: generation.into() })
        });
    }
    service
        .ports(8084, 9184)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription_with(options(LANES), |_| {
            Subscription::new("analytics")
                .latest_wins(OrderProjection::<OrderCreated>::new())
                .latest_wins(OrderProjection::<OrderUpdated>::new())
                .latest_wins(OrderProjection::<OrderCompleted>::new())
                .latest_wins(OrderProjection::<OrderCancelled>::new())
        })
        .subscription_with(options(LANES), |_| {
            Subscription::new("analytics.history")
                .each_once(HistoryProjection::<OrderCreated>::new())
                .each_once(HistoryProjection::<OrderUpdated>::new())
                .each_once(HistoryProjection::<OrderCompleted>::new())
                .each_once(HistoryProjection::<OrderCancelled>::new())
                .each_once(HistoryProjection::<InvoiceIssued>::new())
                .each_once(HistoryProjection::<InvoiceCredited>::new())
        })
        .routes(move |parts| api::routes(parts.pool.clone(), served.into()))
}

/// Returns the options of a subscription. All lanes and routes of the service share its
/// connections, so one that catches up with weeks of history must leave connections to the others.
fn options(lanes: usize) -> Options {
    Options { lanes, fetch_wait: FETCH_WAIT, ..Options::default() }
}
