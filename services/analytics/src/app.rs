//! Assembles the service.

use chassis::Service;
use consumer::{Options, Subscription};
use events::{
    InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted, OrderCreated, OrderUpdated,
};

use crate::consumers::basket::{BasketCancellation, BasketProjection};
use crate::consumers::history::HistoryProjection;
use crate::consumers::orders::OrderProjection;
use crate::{Config, api};

/// Number of lanes of the secondary subscriptions.
const SECONDARY_LANES: usize = 2;

/// Builds the service: its subscriptions and routes.
pub fn build(config: Config) -> Service {
    let (served, sound) = config.served();
    let mut service = Service::new("analytics", config.chassis).requires(sound);
    // All generations share these lanes, so that a second generation that catches up does not take
    // lanes from the other subscriptions.
    let lanes = SECONDARY_LANES.div_ceil(config.basket_generations.len().max(1));
    for generation in config.basket_generations {
        service = service.subscription_with(secondary(lanes), move |_| {
            Subscription::new("analytics.basket")
                .generation(generation.into())
                .each_once(BasketProjection { generation: generation.into() })
                .each_once(BasketCancellation { generation: generation.into() })
        });
    }
    service
        .ports(8084, 9184)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription(|_| {
            Subscription::new("analytics")
                .latest_wins(OrderProjection::<OrderCreated>::new())
                .latest_wins(OrderProjection::<OrderUpdated>::new())
                .latest_wins(OrderProjection::<OrderCompleted>::new())
                .latest_wins(OrderProjection::<OrderCancelled>::new())
        })
        .subscription_with(secondary(SECONDARY_LANES), |_| {
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

/// Returns options of the secondary subscriptions. All lanes and routes of the service share its
/// connections, so one that catches up with weeks of history must leave connections to the others.
fn secondary(lanes: usize) -> Options {
    Options { lanes, ..Options::default() }
}
