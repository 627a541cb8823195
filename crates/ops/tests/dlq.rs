//! The command `orderflow dlq`, from outside.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kafka::rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use kafka::{
    Coordinates, DeadLetter, Reason, Record, Settings, TopicPolicy, Topics, client_headers,
    dead_letter_topic,
};
use sandbox::testing::TestSpace;

const GROUP: &str = "billing";
const PATIENCE: Duration = Duration::from_secs(30);

fn orderflow_dlq(space: &TestSpace) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command
        .arg("dlq")
        .env("KAFKA_BROKERS", space.kafka_brokers())
        .env("KAFKA_TOPIC_PREFIX", space.topic_prefix())
        // Nothing listens there: dead letters can be read while their service is down.
        .env("ADMIN_URL", "http://127.0.0.1:1")
        .env_remove("KAFKA_PROPERTIES");
    command
}

/// Writes dead letters of a group that has no service.
async fn dead_letters(space: &TestSpace, count: i64) {
    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    let topic = dead_letter_topic(GROUP);
    let topics = Topics { owned: vec![topic.clone()], ..Topics::default() };
    kafka::ensure(&settings, &topics, TopicPolicy::Create).await.unwrap();
    let producer: FutureProducer = settings.producer().create().unwrap();
    let topic = settings.prefixed(&topic.name);
    for offset in 0..count {
        let record = Record {
            topic: settings.prefixed("order.completed"),
            partition: 0,
            offset,
            timestamp: Some(0),
            key: None,
            value: Some(b"noise".to_vec()),
            headers: Vec::new(),
        };
        let dead = DeadLetter {
            origin: Coordinates::of(&record),
            group: settings.prefixed(GROUP),
            reason: Reason {
                exception: "made".into(),
                message: "made for the test".into(),
                stacktrace: String::new(),
            },
        };
        let headers = client_headers(&dead.headers(&record));
        let sent =
            FutureRecord::<[u8], [u8]>::to(&topic).partition(0).payload(b"noise").headers(headers);
        producer.send_result(sent).unwrap().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn dead_letters_are_listed_while_their_service_is_down() {
    let space = TestSpace::new().await;
    dead_letters(&space, 2).await;
    let output = orderflow_dlq(&space).arg("list").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    for line in ["2 dead in billing:", "order.completed/0/1", "made for the test"] {
        assert!(text.contains(line), "{text}");
    }
}

/// The marker has an offset and is no record.
#[tokio::test]
async fn the_marker_of_a_transaction_is_not_waited_for() {
    let space = TestSpace::new().await;
    dead_letters(&space, 1).await;
    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    let mut config = settings.producer();
    config.set("transactional.id", settings.prefixed("test")).set("message.timeout.ms", "30000");
    let producer: FutureProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let topic = settings.prefixed(&dead_letter_topic(GROUP).name);
    let sent = FutureRecord::<[u8], [u8]>::to(&topic).partition(0).payload(b"no letter");
    producer.send_result(sent).unwrap().await.unwrap().unwrap();
    producer.commit_transaction(PATIENCE).unwrap();

    let began = Instant::now();
    let output = orderflow_dlq(&space).arg("list").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && text.contains("1 dead in billing:"), "{text}");
    assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_reader_that_closes_early_ends_the_output_quietly() {
    let space = TestSpace::new().await;
    dead_letters(&space, 1).await;
    for arguments in [&["list"][..], &["show", "order.completed/0/0"]] {
        // Closed before the first line, as `| head -1` does before the second.
        let (_, closed) = io::pipe().unwrap();
        let mut command = orderflow_dlq(&space);
        command.args(arguments).stdout(closed).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        assert!(!complaint.contains("panicked"), "{arguments:?}: {complaint}");
    }
}
