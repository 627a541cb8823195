use consumer::{Failure, Handler, Received};
use events::{OrderEvent, {{Event}}};
use sqlx::PgConnection;
use telemetry::query_span;
use tracing::Instrument;

/// Stores a row for each order.
pub(crate) struct {{Projection}};

impl Handler for {{Projection}} {
    type Event = {{Event}};

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> Result<(), Failure> {
        write(tx, events).await?;
        Ok(())
    }
}

/// Returns the amount of an event, in minor units of its currency.
fn amount(_event: &{{Event}}) -> i64 {
    0
}

/// Inserts one row for each order. Further events of an order change nothing.
async fn write(tx: &mut PgConnection, events: &[Received<{{Event}}>]) -> sqlx::Result<()> {
    let data = || events.iter().map(|event| &*event.data);
    sqlx::query(
        // One statement for the whole batch; sorted, so that concurrent transactions lock rows in
        // the same order.
        "insert into {{name}} (order_id, tenant_id, currency, amount)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
             as batch (order_id, tenant_id, currency, amount)
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
