//! Cancellations are processed in parallel with completions, and overtake them.

use std::collections::HashMap;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::topics;

const BEFORE: usize = 50;
const BEHIND: usize = 150;
const AFTERWARDS: usize = 50;
/// Delay of each transaction of completions, by which most cancellations come first.
const SLOW_MILLIS: u64 = 2_000;

pub(crate) async fn overtake_completions(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.slow_billing(SLOW_MILLIS).await?;
    scene.orders(BEHIND).await?;
    if !soon(async || overtaken(scene).await.is_ok_and(|count| count > 0)).await {
        return Err("no cancellation was handled before the completion of its order".into());
    }
    let overtaken = overtaken(scene).await?;
    // Both kinds of transactions are open. The next process is not slow.
    scene.billing.process.kill_9().await;
    scene.orders(BEHIND).await?;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("{overtaken} cancellations were handled before the completions at the kill"))
}

/// Returns the number of completed orders whose cancellation billing has processed before the
/// completion.
async fn overtaken(scene: &Scene) -> Result<i64, Error> {
    let completed = event_ids(scene, "order.completed")?;
    let cancelled = event_ids(scene, "order.cancelled")?;
    let (cancelled, completed): (Vec<_>, Vec<_>) = cancelled
        .into_iter()
        .filter_map(|(order, cancelled)| Some((cancelled, completed.get(&order)?.clone())))
        .unzip();
    let mut billing = scene.system.database("billing").await?;
    let count = sqlx::query_scalar(
        "select count(*) from unnest($1::text[], $2::text[]) as told (cancelled, completed)
         where exists (select from inbox where subscription = 'billing.credits' and event_id = told.cancelled)
           and not exists (select from inbox where subscription = 'billing' and event_id = told.completed)",
    );
    Ok(count.bind(cancelled).bind(completed).fetch_one(&mut billing).await?)
}

/// Returns the id of each order's event, by order.
fn event_ids(scene: &Scene, topic: &str) -> Result<HashMap<String, String>, Error> {
    let records = topics::read_all(&scene.system.kafka(), topic)?;
    let ids = records.iter().filter_map(|it| {
        Some((it.text_header("ce_subject")?.to_owned(), it.text_header("ce_id")?.to_owned()))
    });
    Ok(ids.collect())
}
