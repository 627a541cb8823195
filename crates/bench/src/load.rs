//! Creates the events of the benchmarks and publishes them to Kafka.

use std::time::{Duration, Instant};

use envelope::{Cause, CorrelationId, Encoded, Event, NewEvent, TenantId};
use events::{Item, Order, OrderCompleted, OrderId, OrderStatus};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::KafkaResult;
use kafka::rdkafka::metadata::MetadataTopic;
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::{Settings, TopicPolicy, TopicSpec, Topics};
use time::OffsetDateTime;

use crate::Fallible;

/// Trace context of all records. The relay adds one of the same size.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ASK: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Returns an order with two items.
pub(crate) fn order(status: OrderStatus) -> Fallible<Order> {
    let item = |sku: &str, quantity, unit_price| Item { sku: sku.into(), quantity, unit_price };
    Ok(Order {
        order_id: OrderId::new(),
        tenant_id: TenantId::new("bench")?,
        status,
        customer_email: "buyer@bench.example".into(),
        currency: "EUR".into(),
        items: vec![item("book", 2, 1250), item("pen", 5, 150)],
        total: 3250,
        created_at: now(),
    })
}

/// Returns the `order.completed` event of an order, not yet encoded.
pub(crate) fn completed(order: Order) -> NewEvent<OrderCompleted> {
    message(2, OrderCompleted { order, completed_at: now() })
}

/// Returns an event as the order service publishes it.
pub(crate) fn message<E: Event>(version: i64, data: E) -> NewEvent<E> {
    let cause =
        Cause { traceparent: Some(TRACEPARENT.into()), ..Cause::new(CorrelationId::generate()) };
    NewEvent::new("/order", data, cause).version(version)
}

/// Returns `count` `order.completed` events, each of a different order.
pub(crate) fn completions(count: usize) -> Fallible<Vec<NewEvent<OrderCompleted>>> {
    (0..count).map(|_| Ok(completed(order(OrderStatus::Completed)?))).collect()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

/// Creates a topic. Fails if the cluster can't create it, or has it with other settings.
pub(crate) async fn topic(settings: &Settings, topic: TopicSpec) -> Fallible<()> {
    let topics = Topics { owned: vec![topic], ..Topics::default() };
    match &*kafka::ensure(settings, &topics, TopicPolicy::Create).await? {
        [] => Ok(()),
        [problem, ..] => Err(problem.to_string().into()),
    }
}

/// Publishes all events, and then waits for their acknowledgements.
pub(crate) async fn produce(
    producer: &FutureProducer,
    topic: &str,
    events: &[Encoded],
) -> Fallible<()> {
    let mut sent = Vec::with_capacity(events.len());
    for event in events {
        let Encoded { envelope, data } = event;
        let mut headers = kafka::content_headers(envelope);
        headers.push("traceparent", Some(TRACEPARENT.as_ref()));
        let record = FutureRecord::to(topic)
            .key(event.key())
            .payload(data)
            .headers(kafka::client_headers(&headers));
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for delivery in sent {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// Publishes `count` `order.completed` events, each of a different order.
pub(crate) async fn publish(settings: &Settings, count: usize) -> Fallible<()> {
    let encoded = completions(count)?.into_iter().map(NewEvent::encode);
    let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
    let topic = settings.prefixed(OrderCompleted::TYPE);
    produce(&settings.producer().create()?, &topic, &encoded).await
}

/// Returns the sum of a topic's end offsets. Retries for 10 s, because a new topic's partition may
/// have no leader yet.
pub(crate) fn records(settings: &Settings, event_type: &str) -> Fallible<usize> {
    let consumer: BaseConsumer = settings.client().create()?;
    let topic = settings.prefixed(event_type);
    let deadline = Instant::now() + ASK;
    tokio::task::block_in_place(|| {
        loop {
            match count(&consumer, &topic) {
                Ok(records) => return Ok(usize::try_from(records)?),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => std::thread::sleep(ASK_AGAIN),
            }
        }
    })
}

/// Fails if the number of records of a topic is another one.
pub(crate) fn expect_records(
    settings: &Settings,
    event_type: &str,
    expected: usize,
) -> Fallible<()> {
    let records = records(settings, event_type)?;
    if records != expected {
        return Err(format!("{records} records of {event_type}, {expected} expected").into());
    }
    Ok(())
}

fn count(consumer: &BaseConsumer, topic: &str) -> KafkaResult<i64> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let ends = partitions.map(|it| Ok(consumer.fetch_watermarks(topic, it.id(), ASK)?.1));
    ends.sum()
}
