//! Reads and writes Kafka without joining a group or committing an offset.

use std::time::Duration;

use kafka::{
    Record, Settings, client_headers,
    rdkafka::{
        Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer},
        error::KafkaError,
        groups::{GroupInfo, GroupList},
        metadata::MetadataTopic,
        producer::{FutureProducer, FutureRecord, Producer},
    },
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::Error;

/// Time limit for a condition that is expected at once.
const LIMIT: Duration = Duration::from_secs(20);
/// Time limit of one request to Kafka.
const ANSWER: Duration = Duration::from_secs(3);

/// Reads one topic from its beginning.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    seen: Vec<Record>,
}

impl Reader {
    pub(crate) fn new(settings: &Settings, topic: &str) -> Result<Self, Error> {
        let consumer = watcher(settings, "playground.reader")?;
        let open = || {
            let metadata = block_in_place(|| consumer.fetch_metadata(Some(topic), ANSWER))?;
            if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            // Dropped before the consumer, because dropping the consumer blocks while a list is
            // alive.
            let mut all = TopicPartitionList::new();
            for partition in partitions {
                all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            }
            consumer.assign(&all)
        };
        open().map_err(Error::kafka(format!("read the topic {topic}")))?;
        Ok(Self { consumer, topic: topic.into(), seen: Vec::new() })
    }

    /// Returns the first record that is `wanted`, and waits until there is one.
    pub(crate) async fn find(
        &mut self,
        what: &str,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Record, Error> {
        if let Some(record) = self.seen.iter().find(|record| wanted(record)) {
            return Ok(record.clone());
        }
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::ZERO) {
                None => sleep(Duration::from_millis(2)).await,
                // The client reconnects automatically.
                Some(Err(_)) => sleep(Duration::from_millis(50)).await,
                Some(Ok(message)) => {
                    let record = Record::from_message(&message);
                    self.seen.push(record.clone());
                    if wanted(&record) {
                        return Ok(record);
                    }
                }
            }
        }
        Err(Error::TooLate { until: format!("{what} is in {}", self.topic), limit: LIMIT })
    }
}

/// A consumer group, observed by a client that is no member of it.
pub(crate) struct Group {
    consumer: BaseConsumer,
    name: String,
}

impl Group {
    pub(crate) fn new(settings: &Settings, group: &str) -> Result<Self, Error> {
        Ok(Self { consumer: watcher(settings, group)?, name: settings.prefixed(group) })
    }

    /// Returns the ids of its members. Returns none if Kafka does not answer.
    pub(crate) fn members(&self) -> Vec<String> {
        let asked = block_in_place(|| self.consumer.fetch_group_list(Some(&self.name), ANSWER));
        let groups = asked.iter().flat_map(GroupList::groups);
        groups.flat_map(GroupInfo::members).map(|member| member.id().into()).collect()
    }

    /// Waits until a member has partitions of the topic. Members in `earlier` do not count, because
    /// those of a killed instance stay until their session ends.
    pub(crate) async fn reads(&self, topic: &str, earlier: &[String]) -> Result<(), Error> {
        let asked = || {
            let groups = self.consumer.fetch_group_list(Some(&self.name), ANSWER)?;
            let members = groups.groups().iter().flat_map(GroupInfo::members);
            let mut new = members.filter(|member| earlier.iter().all(|id| id != member.id()));
            // Kafka's own serialization contains the names of topics as plain text.
            let has = |bytes: &[u8]| bytes.windows(topic.len()).any(|it| it == topic.as_bytes());
            Ok(new.any(|member| member.assignment().is_some_and(has)))
        };
        self.until(&format!("{} reads {topic}", self.name), asked).await
    }

    /// Waits until the group has committed an offset past this record.
    pub(crate) async fn is_past(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), Error> {
        let asked = || {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, partition);
            let committed = self.consumer.committed_offsets(list, ANSWER)?;
            let at = committed.find_partition(topic, partition).map(|found| found.offset());
            Ok(matches!(at, Some(Offset::Offset(next)) if next > offset))
        };
        let until = format!("{} is past {topic}/{partition} at {offset}", self.name);
        self.until(&until, asked).await
    }

    async fn until(
        &self,
        until: &str,
        mut asked: impl FnMut() -> Result<bool, KafkaError>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + LIMIT;
        let mut refused = None;
        while Instant::now() < deadline {
            match block_in_place(&mut asked) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // Coordinators move while groups form.
                Err(error) => refused = Some(error),
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(match refused {
            Some(source) => Error::Kafka { doing: format!("wait until {until}"), source },
            None => Error::TooLate { until: until.into(), limit: LIMIT },
        })
    }
}

/// A connected producer.
pub(crate) struct Sender {
    producer: FutureProducer,
}

impl Sender {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let producer: FutureProducer =
            settings.producer().create().map_err(Error::kafka("create a producer"))?;
        // If it requested its producer id before it is connected, it would retry only after 500 ms.
        let connected = block_in_place(|| producer.client().fetch_metadata(Some(""), ANSWER));
        connected.map_err(Error::kafka("connect to Kafka"))?;
        Ok(Self { producer })
    }

    /// Sends key, value and headers of a record. Returns its partition and offset.
    pub(crate) async fn send(&self, topic: &str, record: &Record) -> Result<(i32, i64), Error> {
        let mut sent = FutureRecord::<[u8], [u8]>::to(topic);
        sent.key = record.key.as_deref();
        sent.payload = record.value.as_deref();
        sent.headers = Some(client_headers(&record.headers));
        match tokio::time::timeout(LIMIT, self.producer.send(sent, LIMIT)).await {
            Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
            Ok(Err((source, _))) => {
                Err(Error::Kafka { doing: format!("send a record to {topic}"), source })
            }
            Err(_) => {
                Err(Error::TooLate { until: format!("a record is in {topic}"), limit: LIMIT })
            }
        }
    }
}

/// Creates a consumer that is assigned its partitions by hand: it never joins the group and commits
/// nothing.
fn watcher(settings: &Settings, group: &str) -> Result<BaseConsumer, Error> {
    let mut config = settings.client();
    config.set("group.id", settings.prefixed(group)).set("enable.auto.commit", "false");
    config.create().map_err(Error::kafka("create a client"))
}
