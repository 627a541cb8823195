//! The consumer alone: an event that a foreign producer sends three times takes effect once.

use consumer::{Consumer, Failure, Handler, Received, Subscription};
use envelope::{Event, TopicSpec};
use examples::{Fallible, ParcelShipped, database, kafka, until};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use serde_json::json;
use sqlx::PgConnection;
use telemetry::Metrics;
use tokio_util::sync::CancellationToken;

/// Adds up the weights.
struct TotalWeight;

impl Handler for TotalWeight {
    type Event = ParcelShipped;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelShipped>],
    ) -> Result<(), Failure> {
        let grams: i64 = events.iter().map(|event| event.data.grams).sum();
        sqlx::query("update scales set grams = grams + $1, events = events + $2")
            .bind(grams)
            .bind(i64::try_from(events.len()).unwrap_or(i64::MAX))
            .execute(tx)
            .await?; // Classified: an unavailable database is no failure of the message.
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let (pool, settings) = (database()?, kafka()?);
    consumer::migrate(&pool).await?;
    sqlx::raw_sql(
        "create table scales (grams bigint not null, events bigint not null);
         insert into scales values (0, 0)",
    )
    .execute(&pool)
    .await?;

    let topic = TopicSpec::new(ParcelShipped::TYPE).partitions(2);
    // No other program creates the topic here, so the subscription owns it.
    let subscription = Subscription::new("scales").each_once(TotalWeight).owns(topic);
    let meter = Metrics::new("scales").meter("consumer");
    let shutdown = CancellationToken::new();
    let consumer = Consumer::new(subscription, pool.clone(), settings.clone(), &meter);
    let running = tokio::spawn(consumer.run(shutdown.clone()));

    let producer: FutureProducer = settings.producer().create()?;
    let topic = settings.prefixed(ParcelShipped::TYPE);
    for (id, grams) in [("1", 500), ("1", 500), ("2", 250), ("1", 500)] {
        // Only the attributes that CloudEvents requires, in its JSON format.
        let event = json!({
            "specversion": "1.0", "id": id, "source": "https://depot.example", "type": ParcelShipped::TYPE,
            "data": { "parcel": "P-17", "grams": grams },
        })
        .to_string();
        let content_type = ("content-type", Some("application/cloudevents+json"));
        let headers = [content_type].into_iter().collect();
        let record = FutureRecord::to(&topic)
            .key("P-17")
            .payload(&event)
            .headers(kafka::client_headers(&headers));
        producer.send(record, Timeout::Never).await.map_err(|(error, _)| error)?;
    }

    let weighed = until("both events are weighed", async || {
        let sums: (i64, i64) =
            sqlx::query_as("select grams, events from scales").fetch_one(&pool).await?;
        Ok(Some(sums).filter(|(_, events)| *events >= 2))
    });
    let (grams, events) = weighed.await?;
    println!("{events} events, {grams} g");
    shutdown.cancel();
    running.await?;
    if (grams, events) == (750, 2) { Ok(()) } else { Err("a duplicate was weighed".into()) }
}
