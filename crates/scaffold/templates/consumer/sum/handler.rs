use consumer::{Failure, Handler, Received};
use events::{OrderEvent, {{Event}}};
use sqlx::PgConnection;
use telemetry::query_span;
use tracing::Instrument;

/// Adds up the orders of each tenant and currency.
pub(crate) struct {{Projection}};

impl Handler for {{Projection}} {
    type Event = {{Event}};

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> Result<(), Failure> {
        add(tx, events).await?;
        Ok(())
    }
}

/// Returns the amount of an event, in minor units of its currency.
fn amount(_event: &{{Event}}) -> i64 {
    0
}

/// Adds each order once: `distinct on` removes duplicates within the batch, and `on conflict` those
/// of earlier batches.
async fn add(tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> sqlx::Result<()> {
    let data = || events.iter().map(|event| &*event.data);
    sqlx::query(
        // One statement for the whole batch; sorted, so that concurrent transactions lock rows in
        // the same order.
        "with batch as (
             select distinct on (order_id) *
             from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
                 as batch (order_id, tenant_id, currency, amount)
             order by order_id
         ), fresh as (
             insert into {{name}}_order (order_id) select order_id from batch order by order_id
             on conflict do nothing returning order_id
         )
         insert into {{name}} as known (tenant_id, currency, orders, amount)
         select tenant_id, currency, count(*), sum(amount) from batch join fresh using (order_id)
         group by tenant_id, currency order by tenant_id, currency
         on conflict (tenant_id, currency) do update
             set orders = known.orders + excluded.orders, amount = known.amount + excluded.amount",
    )
    .bind(data().map(|event| event.order_id().0).collect::<Vec<_>>())
    .bind(data().map(|event| event.tenant_id().as_str()).collect::<Vec<_>>())
    .bind(data().map(|event| event{{.order}}.currency.as_str()).collect::<Vec<_>>())
    .bind(data().map(amount).collect::<Vec<_>>())
    .execute(tx)
    .instrument(query_span("upsert {{name}}"))
    .await?;
    Ok(())
}
