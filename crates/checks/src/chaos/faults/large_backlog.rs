//! Billing returns to a backlog that is larger than its memory budget.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::instance::Instance;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::{settle, topics, written};

const TOPIC: &str = "order.completed";
const BEFORE: usize = 100;
const AFTERWARDS: usize = 50;
const MIB: usize = 1024 * 1024;
/// Billing's budget for messages, in bytes. Less than the default, so that a short backlog exceeds
/// it.
const BUDGET: usize = 4 * MIB;
pub(crate) const MEMORY_BYTES: (&str, &str) = ("CONSUMER_MEMORY_BYTES", "4194304");
/// Number of orders in the backlog, and of lines in each: the maximum of the contract.
const ORDERS: usize = 3_000;
const LINES: usize = 100;
/// Minimum size of the backlog, as a multiple of the budget.
const TIMES: usize = 3;
/// Time limit for billing to catch up.
const CAUGHT_UP: Duration = Duration::from_secs(45);
/// Maximum resident memory of billing: its memory under load without a backlog, as built for the
/// suite (36 MiB measured), plus eight times the budget. The budget counts records as received; in
/// addition a batch is decoded and bound to statements. 53 to 57 MiB were measured with this
/// budget, and 85 MiB without one.
const PEAK: usize = 40 * MIB + 8 * BUDGET;

pub(crate) async fn outgrows_memory(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let idle = peak_memory(&scene.billing)?;
    scene.endings.push(scene.billing.terminate().await);
    let committed = topics::progress(&scene.system.kafka())?.committed;
    let written = written::write_many_of(&scene.system, ORDERS, LINES).await?;
    scene.written.extend(written);
    let published = async || settle::waiting(scene, "order").await.is_ok_and(|left| left < 50);
    if !soon(published).await {
        return Err("the backlog was not published".into());
    }
    let stored = topics::read_all(&scene.system.kafka(), TOPIC)?;
    let unread = stored.iter().filter(|record| {
        let next = committed.get(&(record.topic.clone(), record.partition));
        next.is_none_or(|next| record.offset >= *next)
    });
    let backlog: usize = unread.filter_map(|record| record.value.as_ref()).map(Vec::len).sum();
    scene.billing.start_again().await?;
    scene.healed();
    let took = caught_up(scene).await?;
    let peak = peak_memory(&scene.billing)?;
    let summary = format!(
        "a backlog of {} MiB was consumed in {took:.1?}, with a peak of {} MiB (before: {} MiB)",
        backlog / MIB,
        peak / MIB,
        idle / MIB
    );
    if backlog < TIMES * BUDGET || peak > PEAK {
        return Err(summary.into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(summary)
}

/// Waits until billing has almost no lag, while orders continue. Returns the time that took.
async fn caught_up(scene: &Scene) -> Result<Duration, Error> {
    let began = Instant::now();
    while began.elapsed() < CAUGHT_UP {
        if topics::progress(&scene.system.kafka()).is_ok_and(|progress| progress.lag < 50) {
            return Ok(began.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
    let left = topics::progress(&scene.system.kafka())?.lag;
    Err(format!("billing had {left} events left to read after {CAUGHT_UP:?}").into())
}

/// Returns the process's peak resident memory in bytes.
fn peak_memory(instance: &Instance) -> Result<usize, Error> {
    let status = fs::read_to_string(format!("/proc/{}/status", instance.process.pid()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    Ok(kib.ok_or("/proc does not show billing's peak memory")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn billing_is_given_the_budget_that_its_peak_is_checked_against() {
        assert_eq!(MEMORY_BYTES.1.parse(), Ok(BUDGET));
    }
}
