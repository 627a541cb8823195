//! Looking into Kafka from outside: nothing here joins a group or moves another's offset.

use std::{collections::HashMap, time::Duration};

use kafka::{
    Record, Settings, client_headers,
    rdkafka::{
        Message, Offset, TopicPartitionList,
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

use crate::error::Error;

/// How long is waited for something that is due at once.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one question to Kafka may take.
const ASK: Duration = Duration::from_secs(3);

/// One topic, read from its beginning.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    seen: Vec<Record>,
}

impl Reader {
    pub(crate) fn new(settings: &Settings, topic: &str) -> Result<Self, Error> {
        let consumer = watcher(settings, "orderflow.reader")?;
        let open = || {
            let metadata = block_in_place(|| consumer.fetch_metadata(Some(topic), ASK))?;
            if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            // Gone before the consumer is: a living list would keep that one from ending.
            let mut all = TopicPartitionList::new();
            for partition in partitions {
                all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            }
            consumer.assign(&all)
        };
        open().map_err(Error::kafka(format!("read the topic {topic}")))?;
        Ok(Self { consumer, topic: topic.into(), seen: Vec::new() })
    }

    fn partitions(&self) -> Result<Vec<i32>, Error> {
        let assigned = self.consumer.assignment();
        let assigned = assigned.map_err(Error::kafka(format!("read the topic {}", self.topic)))?;
        Ok(assigned
            .elements()
            .iter()
            .map(kafka::rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect())
    }

    /// The first record that is `wanted`; waits for it if it is not there yet.
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
                // The client says so and goes on by itself.
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

/// All records that a topic holds by now.
pub(crate) async fn all(settings: &Settings, topic: &str) -> Result<Vec<Record>, Error> {
    let mut reader = Reader::new(settings, topic)?;
    let (mut count, mut ends) = (0, HashMap::new());
    for partition in reader.partitions()? {
        let marks = block_in_place(|| reader.consumer.fetch_watermarks(topic, partition, ASK));
        let (low, high) = marks.map_err(Error::kafka(format!("ask where {topic} ends")))?;
        count += usize::try_from(high - low).unwrap_or_default();
        ends.insert(partition, high);
    }
    let deadline = Instant::now() + LIMIT;
    while reader.seen.len() < count {
        match reader.consumer.poll(Duration::ZERO) {
            Some(Ok(message)) => {
                // What came since is not counted: it would stand for one that is still to be read elsewhere.
                if ends.get(&message.partition()).is_some_and(|end| message.offset() < *end) {
                    reader.seen.push(Record::from_message(&message));
                }
            }
            _ if Instant::now() > deadline => {
                return Err(Error::TooLate { until: format!("{topic} is read"), limit: LIMIT });
            }
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
    Ok(reader.seen)
}

/// A consumer group, watched by somebody who is no member of it.
pub(crate) struct Group {
    consumer: BaseConsumer,
    name: String,
}

impl Group {
    pub(crate) fn new(settings: &Settings, group: &str) -> Result<Self, Error> {
        Ok(Self { consumer: watcher(settings, group)?, name: settings.prefixed(group) })
    }

    /// Its members' ids; none while Kafka can't say.
    pub(crate) fn members(&self) -> Vec<String> {
        let asked = block_in_place(|| self.consumer.fetch_group_list(Some(&self.name), ASK));
        let groups = asked.iter().flat_map(GroupList::groups);
        groups.flat_map(GroupInfo::members).map(|member| member.id().into()).collect()
    }

    /// Waits until a member has partitions of the topic; not one of `earlier`, which a killed instance
    /// leaves behind for as long as its session lasts.
    pub(crate) async fn reads(&self, topic: &str, earlier: &[String]) -> Result<(), Error> {
        let asked = || {
            let groups = self.consumer.fetch_group_list(Some(&self.name), ASK)?;
            let members = groups.groups().iter().flat_map(GroupInfo::members);
            let mut new = members.filter(|member| earlier.iter().all(|id| id != member.id()));
            // Kafka's own serialisation, in which names stand as they are.
            let has = |bytes: &[u8]| bytes.windows(topic.len()).any(|it| it == topic.as_bytes());
            Ok(new.any(|member| member.assignment().is_some_and(has)))
        };
        self.until(&format!("{} reads {topic}", self.name), asked).await
    }

    /// Waits until the group has committed that it is past this record.
    pub(crate) async fn is_past(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), Error> {
        let asked = || {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, partition);
            let committed = self.consumer.committed_offsets(list, ASK)?;
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
                // Kafka moves things about while groups form.
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

/// A producer, ready to send.
pub(crate) struct Sender {
    producer: FutureProducer,
}

impl Sender {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let producer: FutureProducer =
            settings.producer().create().map_err(Error::kafka("make a producer"))?;
        // Asked for its id before there is a connection, it would try again only after 500 ms.
        let connected = block_in_place(|| producer.client().fetch_metadata(Some(""), ASK));
        connected.map_err(Error::kafka("connect to Kafka"))?;
        Ok(Self { producer })
    }

    /// Sends key, value and headers of a record. Gives the partition and offset that they got.
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

/// A consumer that is given its partitions by hand: it never joins the group and commits nothing.
fn watcher(settings: &Settings, group: &str) -> Result<BaseConsumer, Error> {
    let mut config = settings.client();
    config.set("group.id", settings.prefixed(group)).set("enable.auto.commit", "false");
    config.create().map_err(Error::kafka("make a client"))
}
