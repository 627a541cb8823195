//! The outbox alone: an event is published if and only if the transaction that wrote it commits.

use std::time::Duration;

use envelope::{Cause, CorrelationId, Event, NewEvent, TopicSpec};
use examples::{Fallible, ParcelShipped, database, kafka, until};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::{Record, TopicPolicy, Topics};
use outbox::{Prepared, Relay, RelayWaker};
use telemetry::Metrics;
use tokio_util::sync::CancellationToken;

const PARCELS: TopicSpec = TopicSpec::new(ParcelShipped::TYPE).partitions(1);

fn shipped(parcel: &str) -> Fallible<Prepared> {
    let data = ParcelShipped { parcel: parcel.to_owned(), grams: 500 };
    let event = NewEvent::new("/warehouse", data, Cause::new(CorrelationId::generate()));
    Ok(outbox::prepare(event.version(1))?)
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let (pool, settings) = (database()?, kafka()?);
    outbox::migrate(&pool).await?;
    let topics = Topics { owned: vec![PARCELS], ..Topics::default() };
    for problem in kafka::ensure(&settings, &topics, TopicPolicy::Create).await? {
        eprintln!("{problem}");
    }

    let mut rolled_back = pool.begin().await?;
    outbox::append(&mut rolled_back, &[shipped("P-1")?]).await?;
    rolled_back.rollback().await?;
    let mut committed = pool.begin().await?;
    outbox::append(&mut committed, &[shipped("P-2")?]).await?;
    committed.commit().await?;

    let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
    let meter = Metrics::new("warehouse").meter("outbox");
    let database = (*pool.connect_options()).clone();
    let relay = Relay::new(database, settings.clone(), wake, &meter);
    let relay = tokio::spawn(relay.run(shutdown.clone()));

    let reader: BaseConsumer = settings.consumer("outbox-example").create()?;
    reader.subscribe(&[&settings.prefixed(&PARCELS.name)])?;
    let published = until("something is published", async || {
        let message = reader.poll(Duration::ZERO).transpose()?;
        Ok(message.map(|message| Record::from_message(&message)))
    });
    let record = published.await?;
    let event = kafka::decode(&record)?;
    let shipped: ParcelShipped = event.envelope.read(&event.data)?;
    println!("published: {shipped:?}");
    if shipped.parcel != "P-2" {
        return Err("what was rolled back was published".into());
    }
    shutdown.cancel();
    relay.await?;
    Ok(())
}
