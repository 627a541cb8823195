//! Tests of a producer whose record a broker refused at first. The broker is librdkafka's own mock,
//! which accepts any sequence number, as a real one does in a partition that this producer has not
//! written to yet.

#![allow(clippy::unwrap_used)]

use std::thread::sleep;
use std::time::Duration;

use futures::executor::block_on;
use kafka::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// Longer than two records are apart.
const ROUND_TRIP: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

fn send(producer: &FutureProducer, partition: i32, payload: &str) -> DeliveryFuture {
    let record = FutureRecord::<str, str>::to("t").partition(partition).payload(payload);
    producer.send_result(record).unwrap()
}

/// A topic is in the metadata shortly before its leader accepts records.
#[test]
fn a_record_that_a_new_leader_refuses_is_not_taken_for_delivered_with_the_next_one() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let settings = Settings::new(cluster.bootstrap_servers(), "");
    let producer: FutureProducer = settings.producer().create().unwrap();
    block_on(send(&producer, 1, "connects")).unwrap().unwrap();

    cluster.broker_round_trip_time(1, ROUND_TRIP).unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    let first = send(&producer, 0, "first");
    sleep(ROUND_TRIP / 6); // it is under way, and has no answer yet
    let second = send(&producer, 0, "second");
    let offsets = [first, second].map(|sent| block_on(sent).unwrap().unwrap().offset);

    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let consumer: BaseConsumer = settings.consumer("reader").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    drop(list);
    let (_, end) = consumer.fetch_watermarks("t", 0, PATIENCE).unwrap();
    let there: Vec<_> = (0..end)
        .map(|_| {
            let message = consumer.poll(PATIENCE).unwrap().unwrap();
            String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
        })
        .collect();
    assert_eq!((there, offsets), (vec!["first".into(), "second".into()], [0, 1]));
}
