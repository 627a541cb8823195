//! Cancellations, which are handled beside completions and overtake them.

use std::collections::HashSet;

use super::Struck;
use crate::chaos::Error;
use crate::chaos::books::SAID_OF_INVOICES;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::topics;

const BEFORE: usize = 50;
const BEHIND: usize = 150;
const AFTERWARDS: usize = 50;
/// How much longer each transaction of completions takes: so much that most cancellations come first.
const SLOW_MILLIS: u64 = 2_000;

pub(crate) async fn overtake_completions(scene: &mut Scene) -> Struck {
    scene.orders(BEFORE).await?;
    scene.slow_billing(SLOW_MILLIS).await?;
    scene.orders(BEHIND).await?;
    // In the middle of both, with transactions of both open; the next process is not slow.
    scene.billing.process.kill_9().await;
    scene.orders(BEHIND).await?;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    let overtaken = async || overtaken(scene).is_ok_and(|count| count > 0);
    if !soon(overtaken).await {
        return Err("no cancellation was handled before the completion of its order".into());
    }
    Ok(format!("{} invoices were issued by cancellations", self::overtaken(scene)?))
}

/// How many invoices were issued because their order was cancelled: its completion had not been handled yet.
fn overtaken(scene: &Scene) -> Result<usize, Error> {
    let settings = scene.system.kafka();
    let cancelled = topics::read_all(&settings, "order.cancelled")?;
    let cancelled: HashSet<_> = cancelled.iter().filter_map(|it| it.text_header("ce_id")).collect();
    let issued = topics::read_all(&settings, SAID_OF_INVOICES)?;
    let causes = issued.iter().filter_map(|record| record.text_header("ce_causationid"));
    Ok(causes.filter(|cause| cancelled.contains(cause)).count())
}
