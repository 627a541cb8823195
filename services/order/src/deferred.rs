//! What is done about an order after its response was sent: nothing of it is worth a retry, or keeping a caller
//! waiting. All of it is deferred when the order has been committed, and so runs always: a direct call that failed makes
//! the response an error, and the order is there all the same.

use chassis::Caller;
use defer::Defer;

use crate::api::Api;
use crate::order::Order;

/// Of a new order. Whether any of it succeeds does not concern the order.
pub(crate) fn placed(api: &Api, defer: &Defer, caller: &Caller, order: &Order) {
    let addresses = api.downstream.addresses();
    // Each has its own name, and with it its own limits: one that is dead fills only its own.
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
