//! `orderflow dlq --topic` reads dead letters of other systems from a real Kafka.

use std::io::pipe;
use std::process::{Command, Stdio};
use std::time::Duration;

use kafka::rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use kafka::{Headers, Settings, client_headers};
use sandbox::testing::TestSpace;
use serde_json::json;

use crate::output::CommandOutput;
use crate::topics;

const PATIENCE: Duration = Duration::from_secs(30);

/// Dead letters in Spring's format, in one partition.
struct Letters {
    space: TestSpace,
    topic: String,
}

impl Letters {
    async fn write(count: u8) -> Self {
        let space = TestSpace::new().await;
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        topics::create(&settings, "orders.DLT").await;
        let topic = settings.prefixed("orders.DLT");
        let producer: FutureProducer = settings.producer().create().unwrap();
        for number in 0..count {
            let value = format!("{{\"number\":{number}}}");
            let headers = client_headers(&headers(number));
            let record = FutureRecord::to(&topic).key("key").payload(&value).headers(headers);
            producer.send_result(record).unwrap().await.unwrap().unwrap();
        }
        Self { space, topic }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
        command.arg("dlq").args(arguments).args(["--topic", &self.topic]);
        command.env("KAFKA_BROKERS", self.space.kafka_brokers()).env_remove("KAFKA_PROPERTIES");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::of(self.command(arguments).output().unwrap())
    }

    /// Ends the topic with a transaction's marker, which has an offset but is no record.
    async fn write_marker(&self) {
        let settings = Settings::new(self.space.kafka_brokers(), self.space.topic_prefix());
        let mut config = settings.producer();
        config.set("transactional.id", settings.prefixed("test"));
        let producer: FutureProducer = config.set("message.timeout.ms", "30000").create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let record = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(b"\x1b[2J");
        producer.send_result(record).unwrap().await.unwrap().unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
    }
}

fn headers(number: u8) -> Headers {
    let mut headers = Headers::new();
    let mut add = |name: &str, value: &[u8]| headers.push(name, Some(value));
    add("trace", &[0xff]);
    add("kafka_dlt-original-topic", b"orders");
    add("kafka_dlt-original-partition", &[0, 0, 0, 3]);
    add("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, number]);
    add("kafka_dlt-original-consumer-group", b"invoices");
    add("kafka_dlt-exception-fqcn", b"org.x.ListenerExecutionFailedException");
    add("kafka_dlt-exception-message", format!("reason {number}").as_bytes());
    headers
}

#[tokio::test]
async fn other_peoples_dead_letters_are_listed_and_shown() {
    let letters = Letters::write(5).await;
    let some = letters.run(&["list", "--limit", "2"]);
    assert_eq!(some.status, Some(0), "{some:?}");
    let (newest, older) = (some.out.find("0/4   invoices\n"), some.out.find("0/3   invoices\n"));
    assert!(newest.is_some() && newest < older, "{some:?}");
    assert!(some.out.contains("The newest 2 in"), "{some:?}");
    let all = letters.run(&["list", "--all", "--json"]);
    let document = all.json();
    assert_eq!(document["is_complete"], json!(true));
    assert_eq!(document["dead_letters"].as_array().unwrap().len(), 5);
    assert_eq!(document["dead_letters"][4]["reason"], "reason 0");

    let one = letters.run(&["show", "0/2"]);
    assert_eq!(one.status, Some(0), "{one:?}");
    for part in ["written by Spring", "orders/3/2", "reason 2", "trace: \\xff", "{\"number\":2}"] {
        assert!(one.out.contains(part), "{part}: {one:?}");
    }
    let again = letters.run(&["show", "0/2", "--as", "kcat"]);
    assert!(again.out.contains("-t orders -p 3") && !again.out.contains("kafka_dlt"), "{again:?}");
}

#[tokio::test]
async fn the_marker_of_a_transaction_is_not_waited_for() {
    let letters = Letters::write(1).await;
    letters.write_marker().await;
    let all = letters.run(&["list"]);
    assert_eq!(all.status, Some(0), "{all:?}");
    assert!(all.out.contains("\n2 in "), "{all:?}");
    // The marker is no record.
    assert_eq!(letters.run(&["show", "0/2"]).status, Some(2));
    let text = letters.run(&["show", "0/1"]);
    assert!(text.out.contains("value       \\x1b[2J"), "{text:?}");
}

#[tokio::test]
async fn what_is_no_topic_or_record_is_named() {
    let letters = Letters::write(1).await;
    for (arguments, expected) in [
        (&["show", "0/7"][..], "there is no record 0/7"),
        (&["show", "9/0"], "there is no record 9/0"),
        (&["show", "orders/0/0"], "partition/offset"),
    ] {
        let ran = letters.run(arguments);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(ran.err.contains(expected), "{ran:?}");
    }
    let mut command = letters.command(&["list"]);
    let unknown = CommandOutput::of(command.arg("--topic=nowhere").output().unwrap());
    assert_eq!(unknown.status, Some(2), "an option given twice: {unknown:?}");
    let stopped = Letters { topic: format!("{}x", letters.topic), ..letters };
    let ran = stopped.run(&["list"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("there is no topic"), "{ran:?}");
}

#[tokio::test]
async fn a_reader_of_a_topic_that_closes_early_ends_the_output_quietly() {
    let letters = Letters::write(1).await;
    for arguments in [&["list"][..], &["list", "--json"], &["show", "0/0"]] {
        let (_, closed) = pipe().unwrap();
        let mut command = letters.command(arguments);
        let output = command.stdout(closed).stderr(Stdio::piped()).output().unwrap();
        let ran = CommandOutput::of(output);
        assert_eq!((ran.status, &*ran.err), (Some(0), ""), "{arguments:?}");
    }
}
