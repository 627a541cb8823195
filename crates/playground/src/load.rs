//! Places orders on the local system at a steady rate, and reports their responses and invoices.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use clap::{Args, value_parser};
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at, sleep, sleep_until},
};

use crate::{
    Error, admin,
    deployment::{ACME, SERVICES, Service},
    failure::{Failure, StepContext},
    http,
    report::{heading, line, milliseconds},
};

/// How long to wait for invoices after the last one that arrived.
const PATIENCE: Duration = Duration::from_secs(30);
/// Number of concurrent requests for invoices.
const QUESTIONS: usize = 16;

/// The arguments of `playground load`.
#[derive(Args)]
pub(crate) struct Load {
    /// Orders per second
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Duration in seconds
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3_600))]
    seconds: u32,
}

/// An order that was accepted.
#[derive(Clone, Copy)]
struct Accepted {
    /// Time from when it was due to its response.
    took: Duration,
    responded: SystemTime,
}

/// Result of a request: the order's id, or the reason why there is none.
type Answer = Result<(String, Accepted), String>;

/// Results of all requests.
#[derive(Default)]
struct Placed {
    accepted: HashMap<String, Accepted>,
    /// Number of failures by reason.
    refused: BTreeMap<String, usize>,
}

/// The invoices that arrived.
#[derive(Default)]
struct Invoiced {
    /// Times from an order's response to the issue of its invoice.
    waits: Vec<Duration>,
    /// Number of orders with more than one invoice.
    more_than_one: usize,
    missing: usize,
}

/// Returns the exit status: 1 unless every order was accepted and has one invoice.
pub(crate) async fn run(load: Load, stop: impl Future<Output = u8>) -> Result<u8, Failure> {
    let [order, billing, ..] = &SERVICES;
    for service in [order, billing] {
        if !admin::readiness(service.ports.admin).await.is_ready() {
            let address = format!("the admin port of {}, {}", service.name, service.ports.admin);
            return Err(Error::NotRunning(address)).during("place orders");
        }
    }
    let mut stop = pin!(stop);
    heading(&format!("{} orders a second for {} s", load.rate, load.seconds));
    let measured = async {
        let placed = load.place(order.ports.http).await;
        report_responses(&load, &placed);
        let invoiced = invoiced(billing, &placed.accepted).await.during("ask for the invoices")?;
        report_invoices(&placed, &invoiced);
        let well = placed.refused.is_empty() && invoiced.missing + invoiced.more_than_one == 0;
        Ok(u8::from(!well))
    };
    tokio::select! {
        ended = measured => ended,
        signal = &mut stop => Ok(128 + signal),
    }
}

impl Load {
    fn orders(&self) -> u32 {
        self.rate.saturating_mul(self.seconds)
    }

    /// Places the orders, each when it is due, without waiting for earlier ones: an open loop. A
    /// client that waits for a response before the next request would send fewer requests while the
    /// system is slow, and hide that.
    async fn place(&self, port: u16) -> Placed {
        let begin = Instant::now() + Duration::from_millis(100);
        let (sent, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let progress = tokio::spawn(show_progress(begin, Arc::clone(&sent), Arc::clone(&answered)));
        let mut requests = JoinSet::new();
        for number in 0..self.orders() {
            let due = begin + Duration::from_secs(1) * number / self.rate;
            sleep_until(due).await;
            sent.fetch_add(1, Ordering::Relaxed);
            let answered = Arc::clone(&answered);
            requests.spawn(async move {
                let answer = place(port, due).await;
                answered.fetch_add(1, Ordering::Relaxed);
                answer
            });
        }
        let mut placed = Placed::default();
        while let Some(answer) = requests.join_next().await {
            match answer.unwrap_or_else(|error| Err(error.to_string())) {
                Ok((id, accepted)) => {
                    placed.accepted.insert(id, accepted);
                }
                Err(reason) => *placed.refused.entry(reason).or_default() += 1,
            }
        }
        progress.abort();
        placed
    }
}

/// Prints a line each second.
async fn show_progress(begin: Instant, sent: Arc<AtomicUsize>, answered: Arc<AtomicUsize>) {
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(begin + second, second);
    loop {
        ticks.tick().await;
        let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
        let seconds = begin.elapsed().as_secs();
        line(&format!(
            "  {seconds:>4} s   {sent:>7} sent   {:>6} in flight",
            sent.saturating_sub(answered)
        ));
    }
}

async fn place(port: u16, due: Instant) -> Answer {
    #[derive(Deserialize)]
    struct Order {
        id: String,
    }
    let answer = http::place_complete(port, &ACME).await.map_err(reason)?;
    let accepted = Accepted { took: due.elapsed(), responded: SystemTime::now() };
    match answer.status() {
        StatusCode::CREATED => {
            let order: Order = answer.json().await.map_err(reason)?;
            Ok((order.id, accepted))
        }
        status => Err(format!("status {status}")),
    }
}

/// Returns why a request failed, in words that many requests share.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn reason(error: reqwest::Error) -> String {
    let reason = match () {
        () if error.is_timeout() => "no response in time",
        () if error.is_connect() => "no connection",
        () => "the connection was closed",
    };
    reason.to_owned()
}

/// Asks billing for the invoice of each order until all have arrived, or none has arrived for a
/// while.
async fn invoiced(
    billing: &Service,
    orders: &HashMap<String, Accepted>,
) -> Result<Invoiced, Error> {
    let mut invoiced = Invoiced::default();
    let mut left: Vec<_> = orders.iter().collect();
    let mut deadline = Instant::now() + PATIENCE;
    while !left.is_empty() && Instant::now() < deadline {
        let questions = stream::iter(left.drain(..)).map(async |(id, accepted)| {
            (id, accepted, http::invoices(billing.ports.http, &ACME, id).await)
        });
        let answers: Vec<_> = questions.buffer_unordered(QUESTIONS).collect().await;
        for (id, accepted, invoices) in answers {
            match invoices?.as_slice() {
                [] => left.push((id, accepted)),
                [first, more @ ..] => {
                    invoiced.more_than_one += usize::from(!more.is_empty());
                    let wait = first.issued_at - OffsetDateTime::from(accepted.responded);
                    // An invoice may be issued before the response has arrived.
                    invoiced.waits.push(wait.try_into().unwrap_or_default());
                    deadline = Instant::now() + PATIENCE;
                }
            }
        }
        if !left.is_empty() {
            sleep(Duration::from_millis(200)).await;
        }
    }
    invoiced.missing = left.len();
    Ok(invoiced)
}

fn report_responses(load: &Load, placed: &Placed) {
    line(&format!("\n  orders      {} of {} accepted", placed.accepted.len(), load.orders()));
    for (reason, count) in &placed.refused {
        line(&format!("              {count}: {reason}"));
    }
    let took = placed.accepted.values().map(|accepted| accepted.took).collect();
    line(&format!(
        "  response    {}   measured from the time at which each was due",
        percentiles(took)
    ));
}

fn report_invoices(placed: &Placed, invoiced: &Invoiced) {
    let (count, waits) = (invoiced.waits.len(), percentiles(invoiced.waits.clone()));
    line(&format!("  invoice     {waits}   measured from the response"));
    line(&format!("  arrived     {count} invoices of {} orders", placed.accepted.len()));
    if invoiced.missing > 0 {
        let seconds = PATIENCE.as_secs();
        line(&format!(
            "              {} still missing {seconds} s after the last",
            invoiced.missing
        ));
    }
    if invoiced.more_than_one > 0 {
        line(&format!("              {} orders have more than one", invoiced.more_than_one));
    }
}

/// Formats p50, p90, p99 and the maximum.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let Some(max) = times.last() else { return "none".into() };
    let at = |percent: usize| milliseconds(times[percentile(times.len(), percent)]);
    let (p50, p90, p99) = (at(50), at(90), at(99));
    format!("p50 {p50}, p90 {p90}, p99 {p99}, max {}", milliseconds(*max))
}

/// Returns the index of a percentile among `count` sorted values (nearest rank).
fn percentile(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).clamp(1, count.max(1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let of = |count| [50, 90, 99].map(|percent| percentile(count, percent));
        assert_eq!(of(1), [0, 0, 0]);
        assert_eq!(of(2), [0, 1, 1]);
        assert_eq!(of(100), [49, 89, 98]);
        assert_eq!(of(1_000), [499, 899, 989]);
    }

    #[test]
    fn without_an_order_there_are_no_percentiles() {
        assert_eq!(percentiles(Vec::new()), "none");
        let times = [3, 1, 2].map(Duration::from_millis).into();
        assert_eq!(percentiles(times), "p50 2.0 ms, p90 3.0 ms, p99 3.0 ms, max 3.0 ms");
    }
}
