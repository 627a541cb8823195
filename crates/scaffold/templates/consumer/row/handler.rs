use consumer::{Failure, Handler, Received};
use events::{OrderEvent, {{Event}}};
use sqlx::PgConnection;
use telemetry::query_span;
use tracing::Instrument;

/// Writes a row for each order.
pub(crate) struct {{Projection}};

impl Handler for {{Projection}} {
    type Event = {{Event}};

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> Result<(), Failure> {
        write(tx, events).await?;
        Ok(())
    }
}

/// Returns what an order counts, in minor units of its currency.
fn amount(_event: &{{Event}}) -> i64 {
    0
}

/// Writes one row for each order, whatever is told of it again.
async fn write(tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> sqlx::Result<()> {
    let data = || events.iter().map(|event| &*event.data);
    sqlx::query(
        // One statement for a whole batch; sorted, so that two transactions take their locks in the same order.
        "insert into {{name}} (order_id, tenant_id, currency, amount)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
             as told (order_id, tenant_id, currency, amount)
         order by order_id
         on conflict do nothing",
    )
    .bind(data().map(|event| event.order_id().0).collect::<Vec<_>>())
    .bind(data().map(|event| event.tenant_id().as_str()).collect::<Vec<_>>())
    .bind(data().map(|event| event{{.order}}.currency.as_str()).collect::<Vec<_>>())
    .bind(data().map(amount).collect::<Vec<_>>())
    .execute(tx)
    .instrument(query_span("insert {{name}}"))
    .await?;
    Ok(())
}
