//! Measures one and two instances of `order` and of `billing`. They share the cores, so the curve
//! shows the cost of an order.

use super::Curve;
use crate::orders::Http;
use crate::servers::Bench;
use crate::{Fallible, Size, backlog};

const SECONDS: u64 = 5;
const BACKLOG: usize = 20_000;

pub(super) async fn measure(
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    let (seconds, events) = (size.seconds(SECONDS), size.of(BACKLOG));
    let one = Http::start(bench, "growth_order_1").await?;
    let mut two = Http::start(bench, "growth_order_2").await?;
    two.join().await?;
    let mut orders = [(1, Vec::new()), (2, Vec::new())];
    for round in 1..=size.rounds {
        for ((instances, rates), http) in orders.iter_mut().zip([&one, &two]) {
            let rate = http.run(seconds).await?.published;
            progress(&format!("{round}/{}: {instances} of order: {rate:.0} orders/s", size.rounds));
            rates.push(rate);
        }
    }
    one.stop().await;
    two.stop().await;
    let mut billed = [(1, Vec::new()), (2, Vec::new())];
    for round in 1..=size.rounds {
        for (instances, rates) in &mut billed {
            let name = format!("growth_billing_{instances}_{round}");
            let (rate, _) =
                backlog::publish(bench, &name, events, usize::try_from(*instances)?).await?;
            progress(&format!(
                "{round}/{}: {instances} of billing: {rate:.0} events/s",
                size.rounds
            ));
            rates.push(rate);
        }
    }
    Ok(vec![
        Curve::new("instances of order, until published", "orders/s", orders.into()),
        Curve::new("instances of billing, until published", "events/s", billed.into()),
    ])
}
