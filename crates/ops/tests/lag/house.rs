//! Topics and groups for one test, and a service that lists its subscription.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::routing::get;
use axum::{Json, Router};
use kafka::Settings;
use kafka::rdkafka::admin::{AdminClient, AdminOptions};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use kafka::rdkafka::{Offset, TopicPartitionList};
use sandbox::testing::TestSpace;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::output::{CommandOutput, run};
use crate::{offsets, topics};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct House {
    pub(crate) space: TestSpace,
    pub(crate) settings: Settings,
    service: SocketAddr,
}

impl House {
    /// Starts a service `billing`, whose group of that name consumes `parcels`.
    pub(crate) async fn new() -> Self {
        let space = TestSpace::new().await;
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let subscriptions = async || {
            let billing = json!({
                "group": "billing", "state": "running", "topics": ["parcels"], "instances": [],
            });
            Json(json!({ "subscriptions": [billing] }))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = listener.local_addr().unwrap();
        let router = Router::new().route("/subscriptions", get(subscriptions));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { space, settings, service }
    }

    /// Creates `parcels` with one partition, and writes this number of records of this age.
    pub(crate) async fn parcels(count: usize, age: Duration) -> Self {
        let house = Self::new().await;
        topics::create(&house.settings, "parcels").await;
        house.send(count, age).await;
        house
    }

    pub(crate) fn topic(&self) -> String {
        self.settings.prefixed("parcels")
    }

    pub(crate) async fn send(&self, count: usize, age: Duration) {
        let producer: FutureProducer = self.settings.producer().create().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = now.checked_sub(age).unwrap();
        let (topic, millis) = (self.topic(), i64::try_from(at.as_millis()).unwrap());
        for _ in 0..count {
            let record = FutureRecord::<[u8], [u8]>::to(&topic).payload(b"{}").timestamp(millis);
            producer.send_result(record).unwrap().await.unwrap().unwrap();
        }
    }

    /// Writes one record in a transaction, whose marker takes the next offset.
    pub(crate) async fn send_in_transaction(&self) {
        let mut config = self.settings.producer();
        config.set("transactional.id", self.settings.prefixed("test"));
        let producer: FutureProducer = config.set("message.timeout.ms", "30000").create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let topic = self.topic();
        let record = FutureRecord::<[u8], [u8]>::to(&topic).payload(b"{}");
        producer.send_result(record).unwrap().await.unwrap().unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
    }

    /// Commits an offset for a group, which has no members afterwards.
    pub(crate) fn commit(&self, group: &str, offset: i64) {
        offsets::commit(&self.settings, group, &self.topic(), offset);
    }

    /// Joins a group and commits all records.
    pub(crate) fn consume(&self, group: &str, count: usize) -> BaseConsumer {
        let mut config = self.settings.consumer(group);
        let consumer: BaseConsumer =
            config.set("enable.auto.offset.store", "true").create().unwrap();
        consumer.subscribe(&[&self.topic()]).unwrap();
        let mut seen = 0;
        while seen < count {
            seen += usize::from(matches!(consumer.poll(PATIENCE), Some(Ok(_))));
        }
        consumer.commit_consumer_state(CommitMode::Sync).unwrap();
        consumer
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.settings.client().create().unwrap()
    }

    /// Deletes the records before an offset, as retention does.
    pub(crate) async fn delete_before(&self, offset: i64) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let deleting = {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic(), 0, Offset::Offset(offset)).unwrap();
            self.admin().delete_records(&list, &options).await
        };
        deleting.unwrap();
    }

    pub(crate) async fn delete_topic(&self) {
        let topic = self.topic();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.admin().delete_topics(&[&topic], &options).await.unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
        command.arg("lag").args(arguments).stdin(Stdio::null());
        command.env("ORDERFLOW_SERVICES", format!("billing=http://{}", self.service));
        command.env("KAFKA_BROKERS", self.space.kafka_brokers());
        command.env("KAFKA_TOPIC_PREFIX", self.space.topic_prefix());
        command.env_remove("KAFKA_PROPERTIES").env_remove("OPERATOR_TOKEN");
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> CommandOutput {
        run(self.command(arguments)).await
    }

    /// Returns the exit status and the JSON of billing's group.
    pub(crate) async fn billing(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let arguments: Vec<_> =
            ["--json", "--group", "billing"].iter().chain(arguments).copied().collect();
        let ran = self.run(&arguments).await;
        let document = ran.json();
        assert_eq!(document["groups"].as_array().unwrap().len(), 1, "{document}");
        (ran.status, document["groups"][0].clone())
    }
}
