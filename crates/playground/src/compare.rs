//! Compares direct calls with events: the same orders with each, without a fault, while
//! notification is down, and while it is slow.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::StatusCode;
use sandbox::{Console, step};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Error,
    deployment::{ACME, Deployment, Location, Setting},
    failure::{Failure, StepContext},
    http,
    report::{heading, line},
};

/// Number of orders of each load, and orders per second.
const ORDERS: u32 = 100;
const PER_SECOND: u32 = 20;
/// Time limit for the effects of the orders after the fault is healed.
const SETTLE: Duration = Duration::from_secs(30);
const BROKEN: &str = "notification";

/// How consumers receive orders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeliveryMode {
    Direct,
    Events,
}

impl DeliveryMode {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct calls",
            Self::Events => "events",
        }
    }

    fn settings(self) -> Vec<Setting> {
        match self {
            Self::Events => Vec::new(),
            Self::Direct => vec![
                (Some("order"), "ORDER_DIRECT", "billing,notification,analytics".into()),
                (None, "SUBSCRIBE", "off".into()),
            ],
        }
    }
}

/// The result of one load.
struct LoadResult {
    what: &'static str,
    succeeded: usize,
    /// Response times, the shortest first.
    times: Vec<Duration>,
    /// Number of completed orders, regardless of the response.
    complete: usize,
    /// Number of orders that have a confirmation in the end.
    confirmed: usize,
}

/// Returns the exit status.
pub(crate) async fn run(console: &Console, stop: impl Future<Output = u8>) -> Result<u8, Failure> {
    let mut stop = pin!(stop);
    heading("Orderflow: direct calls and events, while notification is down, then slow");
    let mut all = Vec::new();
    for mode in [DeliveryMode::Direct, DeliveryMode::Events] {
        line(&format!("{} a second, {ORDERS} orders a load, by {}", PER_SECOND, mode.name()));
        let settings = mode.settings();
        let mut deployment = tokio::select! {
            started = Deployment::start(Location::Temporary, &settings, console) => {
                started.during("start the system")?
            }
            signal = &mut stop => return Ok(128 + signal),
        };
        let ended = tokio::select! {
            outcomes = loads(&mut deployment, console) => outcomes.map(Ok),
            signal = &mut stop => Ok(Err(signal)),
        };
        let ended = ended.map_err(|failure| failure.with_logs(deployment.log_tails()));
        deployment.stop().await;
        match ended? {
            Ok(outcomes) => all.push((mode, outcomes)),
            Err(signal) => return Ok(128 + signal),
        }
        line("");
    }
    table(&all);
    Ok(0)
}

async fn loads(deployment: &mut Deployment, console: &Console) -> Result<Vec<LoadResult>, Failure> {
    let mut outcomes = Vec::new();
    outcomes.push(load(deployment, console, "all is well").await.during("place orders")?);

    deployment.service_mut(BROKEN).kill_9().await;
    let mut down =
        load(deployment, console, "notification is down").await.during("place orders")?;
    deployment.service_mut(BROKEN).start_again().await.during("start notification again")?;
    down.confirmed = confirmed(deployment, console, 2 * ORDERS as usize).await.during("count")?;
    outcomes.push(down);

    let slow = json!({ "kind": "slow", "rate": 1.0, "delay_ms": 1500 });
    deployment.service(BROKEN).set_fault(slow).await.during("make notification slow")?;
    let mut slow =
        load(deployment, console, "notification is slow").await.during("place orders")?;
    deployment.service(BROKEN).set_fault(Value::Null).await.during("heal notification")?;
    slow.confirmed = confirmed(deployment, console, 3 * ORDERS as usize).await.during("count")?;
    outcomes.push(slow);
    // The counts are cumulative, so the count of the previous load is subtracted.
    for at in (1..outcomes.len()).rev() {
        let before = (outcomes[at - 1].complete, outcomes[at - 1].confirmed);
        let outcome = &mut outcomes[at];
        outcome.complete = outcome.complete.saturating_sub(before.0);
        outcome.confirmed = outcome.confirmed.saturating_sub(before.1);
    }
    Ok(outcomes)
}

/// Places and completes orders at a steady rate, each with one request, without waiting for earlier
/// ones.
async fn load(
    deployment: &Deployment,
    console: &Console,
    what: &'static str,
) -> Result<LoadResult, Error> {
    let port = deployment.service("order").http;
    let begun = tokio::time::Instant::now();
    let orders = (0..ORDERS).map(|number| async move {
        tokio::time::sleep_until(begun + Duration::from_secs(1) * number / PER_SECOND).await;
        let asked = Instant::now();
        let answer = http::place_complete(port, &ACME).await;
        (answer.is_ok_and(|answer| answer.status() == StatusCode::CREATED), asked.elapsed())
    });
    let placed = async { Ok::<_, Error>(join_all(orders).await) };
    let answers = step(console, what, placed, |_| what.to_owned()).await?;
    let succeeded = answers.iter().filter(|(succeeded, _)| *succeeded).count();
    let mut times: Vec<_> = answers.iter().map(|(_, took)| *took).collect();
    times.sort();
    let complete = http::orders(port, &ACME).await?.len();
    let confirmed = if what == "all is well" {
        confirmed(deployment, console, ORDERS as usize).await?
    } else {
        0
    };
    Ok(LoadResult { what, succeeded, times, complete, confirmed })
}

/// Waits until all orders have a confirmation, or until it is of no use. Returns the number of
/// confirmed orders.
async fn confirmed(
    deployment: &Deployment,
    console: &Console,
    wanted: usize,
) -> Result<usize, Error> {
    let until = Instant::now() + SETTLE;
    let counting = async {
        loop {
            let mut count = 0;
            for order in http::orders(deployment.service("order").http, &ACME).await? {
                let emails = http::emails(deployment.service(BROKEN).http, &ACME, &order).await?;
                count += usize::from(emails.iter().any(|email| email.kind == "confirmation"));
            }
            if count >= wanted || Instant::now() >= until {
                return Ok(count);
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    let progress = |count: &usize| format!("{count} confirmations so far, of {wanted} orders");
    step(console, "waiting for the effects", counting, progress).await
}

fn table(all: &[(DeliveryMode, Vec<LoadResult>)]) {
    line(&format!(
        "{:22} {:14} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "by", "success", "p50", "p99", "complete", "confirmed"
    ));
    let outcomes = all.first().map_or(0, |(_, outcomes)| outcomes.len());
    for at in 0..outcomes {
        for (mode, outcomes) in all {
            let Some(it) = outcomes.get(at) else { continue };
            let percent = it.succeeded * 100 / ORDERS as usize;
            let time = |share: usize| {
                let at = (it.times.len() * share / 100).min(it.times.len().saturating_sub(1));
                it.times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
            };
            line(&format!(
                "{:22} {:14} {:>8} % {:>7.1} ms {:>7.1} ms {:>10} {:>10}",
                it.what,
                mode.name(),
                percent,
                time(50),
                time(99),
                it.complete,
                it.confirmed
            ));
        }
    }
    line(
        "\nconfirmed: orders of that load with a confirmation after notification was well again. An order that is\n\
         complete and not confirmed is lost to notification: it is not sent again.",
    );
}
