//! The crates in another system: an event type, a topic, a schema and two databases of its own. A
//! transaction in one database causes an effect in the other.

use consumer::{Consumer, Failure, Handler, Received, Subscription};
use envelope::{Cause, CorrelationId, NewEvent};
use examples::{Fallible, PARCELS, ParcelShipped, kafka, own_database, until};
use kafka::{TopicPolicy, Topics};
use outbox::{Relay, RelayWaker};
use sqlx::PgConnection;
use telemetry::Metrics;
use tokio_util::sync::CancellationToken;

struct Charge;

impl Handler for Charge {
    type Event = ParcelShipped;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelShipped>],
    ) -> Result<(), Failure> {
        let parcels: Vec<_> = events.iter().map(|event| event.data.parcel.as_str()).collect();
        let cents: Vec<_> = events.iter().map(|event| event.data.grams / 10).collect();
        sqlx::query("insert into charges select * from unnest($1::text[], $2::bigint[])")
            .bind(parcels)
            .bind(cents)
            .execute(tx)
            .await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let (warehouse, accounting, settings) =
        (own_database("warehouse").await?, own_database("accounting").await?, kafka()?);
    outbox::migrate(&warehouse).await?;
    consumer::migrate(&accounting).await?;
    sqlx::query("create table parcels (parcel text primary key)").execute(&warehouse).await?;
    sqlx::query("create table charges (parcel text primary key, cents bigint not null)")
        .execute(&accounting)
        .await?;
    let topics = Topics { owned: vec![PARCELS], ..Topics::default() };
    for problem in kafka::ensure(&settings, &topics, TopicPolicy::Create).await? {
        eprintln!("{problem}");
    }

    let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
    let meter = Metrics::new("lift").meter("lift");
    let options = (*warehouse.connect_options()).clone();
    let relay = Relay::new(options, settings.clone(), wake.clone(), &meter);
    let subscription = Subscription::new("accounting").each_once(Charge);
    let consumer = Consumer::new(subscription, accounting.clone(), settings, &meter);
    let running =
        [tokio::spawn(relay.run(shutdown.clone())), tokio::spawn(consumer.run(shutdown.clone()))];

    let data = ParcelShipped { parcel: "P-17".into(), grams: 500 };
    let cause = Cause::new(CorrelationId::generate());
    let event = outbox::prepare(NewEvent::new("/warehouse", data, cause).version(1))?;
    let mut tx = warehouse.begin().await?;
    sqlx::query("insert into parcels values ('P-17')").execute(&mut *tx).await?;
    outbox::append(&mut tx, &[event]).await?;
    tx.commit().await?;
    wake.wake();

    let charged = until("the parcel is charged", async || {
        let charge = sqlx::query_as("select parcel, cents from charges");
        Ok(charge.fetch_optional(&accounting).await?)
    });
    let (parcel, cents): (String, i64) = charged.await?;
    println!("charged: {parcel}, {cents} cents");
    shutdown.cancel();
    for task in running {
        task.await?;
    }
    Ok(())
}
