//! Measures batches whose handler inserts one row and publishes an event for each: a publishing
//! service without work of its own.

use std::time::{Duration, Instant};

use consumer::{Failure, Handler, Options, Received, Subscription};
use envelope::{Event, NewEvent};
use events::{INVOICE_ISSUED, InvoiceId, InvoiceIssued, OrderCompleted};
use outbox::{Relay, RelayWaker};
use sqlx::{PgConnection, PgPool};
use telemetry::Metrics;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::consumer::{InsertEffect, Stage};
use crate::report::count;
use crate::servers::Bench;
use crate::{Fallible, load};

const PARTITIONS: i32 = 8;
const LIMIT: Duration = Duration::from_mins(2);

/// Handler that inserts the effects of events, and publishes the event of an invoice for each.
struct InsertAndPublish;

impl Handler for InsertAndPublish {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        InsertEffect.handle(tx, events).await?;
        let invoices = events.iter().map(|event| outbox::prepare(invoice(event)));
        let invoices = invoices.collect::<Result<Vec<_>, _>>().map_err(Failure::permanent)?;
        outbox::append(tx, &invoices).await?;
        Ok(())
    }
}

fn invoice(completed: &Received<OrderCompleted>) -> NewEvent<InvoiceIssued> {
    let order = &completed.data.order;
    let data = InvoiceIssued {
        invoice_id: InvoiceId::new(),
        order_id: order.order_id,
        tenant_id: order.tenant_id.clone(),
        number: 1,
        customer_email: order.customer_email.clone(),
        currency: order.currency.clone(),
        total: order.total,
        issued_at: completed.data.completed_at,
    };
    NewEvent::new("/bench", data, completed.cause())
}

/// Returns the events per second from the first transaction to the empty outbox. Each `name` has
/// topics and a database of its own.
pub(crate) async fn rate(
    bench: &Bench,
    name: &str,
    events: usize,
    options: Options,
) -> Fallible<f64> {
    let stage = Stage::new(bench, name, events).await?;
    load::topic(stage.settings(), INVOICE_ISSUED.partitions(PARTITIONS)).await?;
    outbox::migrate(stage.pool()).await?;

    let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
    let (database, meter) = (stage.url().parse()?, Metrics::new("bench").meter("outbox"));
    let relay = Relay::new(database, stage.settings().clone(), wake.clone(), &meter);
    let relaying = tokio::spawn(relay.run(shutdown.clone()));
    let subscription = Subscription::new("ours").each_once(InsertAndPublish);
    let consumer = stage.consumer(subscription, options).on_commit(move || wake.wake());
    let (processed, emptied) =
        tokio::join!(stage.run(consumer), wait_until_empty(stage.pool(), events));
    shutdown.cancel();
    relaying.await?;

    let ((began, _), ended) = (processed?, emptied?);
    load::expect_records(stage.settings(), InvoiceIssued::TYPE, events)?;
    Ok(count(events) / (ended - began))
}

/// Waits until every event has had its effect and the outbox is empty. Returns that time in
/// seconds, by the database's clock.
async fn wait_until_empty(pool: &PgPool, events: usize) -> Fallible<f64> {
    let (deadline, all) = (Instant::now() + LIMIT, i64::try_from(events)?);
    loop {
        // Neither the effects nor, while events are written, the deleted rows of the outbox are
        // walked at each look. Each event takes the next id, in one transaction with its effect.
        let ended: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from clock_timestamp())::float8
             where case when (select last_value from outbox_id_seq) >= $1
                        then not exists (select from outbox) and (select count(*) from effects) = $1 end",
        )
        .bind(all)
        .fetch_optional(pool)
        .await?;
        match ended {
            Some(ended) => return Ok(ended),
            None if Instant::now() > deadline => return Err("rows are left in the outbox".into()),
            None => sleep(Duration::from_millis(20)).await,
        }
    }
}
