//! Work about an order that is deferred until after the response. It is not worth a retry, nor a
//! delay of the response. It is deferred after the commit and runs even if the response is an
//! error, because the order exists even if a direct call failed.

use chassis::Caller;
use defer::Defer;

use crate::api::Api;
use crate::order::Order;

/// Defers the work about a new order. Its failures do not affect the order.
pub(crate) fn placed(api: &Api, defer: &Defer, caller: &Caller, order: &Order) {
    let addresses = api.downstream.addresses();
    // Each task has its own label and limits, so that an unavailable target affects only its own
    // tasks.
    if addresses.notification_url.0.is_some() {
        let (downstream, order, flow) = (api.downstream.clone(), order.clone(), caller.into());
        defer
            .run("acknowledgement", async move { downstream.acknowledge(&order, &flow).await })
            .always();
    }
    if addresses.analytics_url.0.is_some() {
        let (downstream, order, flow) = (api.downstream.clone(), order.clone(), caller.into());
        defer.run("tracking", async move { downstream.track(&order, &flow).await }).always();
    }
    if addresses.inventory_url.0.is_some() {
        let (downstream, order, flow) = (api.downstream.clone(), order.clone(), caller.into());
        defer
            .run("inventory sync", async move { downstream.sync_inventory(&order, &flow).await })
            .always();
    }
}
