use std::fmt;

use rdkafka::ClientConfig;

/// As large as librdkafka allows a request to be, less its framing.
const LARGEST_RECORD: &str = "100000000";
/// How many bytes of a partition a fetch asks for. A record that is larger comes all the same, by itself.
const FETCHED_AT_ONCE: usize = 2 * 1024 * 1024;
/// librdkafka's default.
const CLIENTS_MESSAGE_MAX_BYTES: usize = 1_000_000;
/// What a consumer buffers unless it is told otherwise.
const BUFFERED: usize = 8 * 1024 * 1024;

/// Settings that are not `key=value` pairs.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not of the form property=value,property=value")]
pub struct SettingsError(String);

/// Where Kafka is, and what all clients of one process share.
///
/// ```no_run
/// use kafka::rdkafka::producer::FutureProducer;
///
/// let settings = kafka::Settings::new("localhost:9092", "staging.")
///     .with_properties("security.protocol=SSL,ssl.ca.location=/etc/kafka/ca.pem")?;
/// assert_eq!(settings.prefixed("parcel.shipped"), "staging.parcel.shipped");
/// let producer: FutureProducer = settings.producer().create()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    brokers: String,
    prefix: String,
    properties: Vec<(String, String)>,
}

impl Settings {
    /// `brokers` is `host:port,..`; `prefix` precedes every topic and group id, so that systems
    /// (and tests) can share a cluster.
    pub fn new(brokers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), prefix: prefix.into(), properties: Vec::new() }
    }

    /// Adds properties whose values may hold anything.
    pub(crate) fn with_pairs(mut self, pairs: Vec<(&'static str, String)>) -> Self {
        self.properties.extend(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self
    }

    /// Adds librdkafka properties (TLS, SASL, tuning), `property=value,property=value`; they win over ours. In a file each
    /// may have a line of its own, and lines that begin with `#` are comments.
    pub fn with_properties(mut self, properties: &str) -> Result<Self, SettingsError> {
        let lines = properties.lines().filter(|line| !line.trim_start().starts_with('#'));
        let pairs = lines.flat_map(|line| line.split(',')).map(str::trim);
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| SettingsError(pair.to_owned()))?;
            self.properties.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(self)
    }

    /// The name on the cluster of a topic or group.
    pub fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The topic or group of ours that this name on the cluster is; as it is where the prefix is not ours.
    pub fn unprefixed<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&self.prefix).unwrap_or(name)
    }

    /// For a client that only asks.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        // A broker that comes back is found within a second, not within ten.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        self.finish(config)
    }

    /// For a producer whose records are never given up: a record fails only when the broker refuses it.
    /// The key decides the partition as it does for the Java clients.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Of two requests under way, librdkafka takes the first one for delivered when the second one is, although
            // the first was refused; and a broker takes the second one in a partition that is new to this producer.
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random")
            // The topic decides; the client's own limit must not be the narrower one.
            .set("message.max.bytes", LARGEST_RECORD)
            .set("queue.buffering.max.kbytes", "65536");
        self.finish(config)
    }

    /// Returns the configuration of a consumer that stores its offsets by hand and shares partitions cooperatively.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        self.consumer_within(group, BUFFERED)
    }

    /// Returns the same configuration, with which the client buffers about so many bytes of records that were not polled.
    /// Besides them it holds what it receives at the moment, which is as much again.
    pub fn consumer_within(&self, group: &str, bytes: usize) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", self.prefixed(group))
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            // librdkafka's default, `latest`, skips what came before the first commit.
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("allow.auto.create.topics", "false")
            // How soon it is seen that a topic has more partitions, or is there at last.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // How long a dead instance's partitions wait for another one.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "3000")
            .set("queued.max.messages.kbytes", (bytes / 1024).to_string())
            // Of one answer; the broker sends a larger record all the same. The client wants it to be at least its own
            // message.max.bytes.
            .set("fetch.max.bytes", bytes.max(self.message_max_bytes()).to_string())
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.message.max.bytes", bytes.min(FETCHED_AT_ONCE).to_string());
        self.finish(config)
    }

    /// What the properties say about it, or the client's default.
    fn message_max_bytes(&self) -> usize {
        let given = self.properties.iter().rev().find(|(name, _)| name == "message.max.bytes");
        given.and_then(|(_, value)| value.parse().ok()).unwrap_or(CLIENTS_MESSAGE_MAX_BYTES)
    }

    fn finish(&self, mut config: ClientConfig) -> ClientConfig {
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}

/// Properties may hold passwords, so only their names are shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(key, _)| key).collect();
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("properties", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_pass_through_and_win() {
        let settings = Settings::new("localhost:9092", "t-")
            .with_properties("security.protocol=SASL_PLAINTEXT, sasl.password=a=b,linger.ms=5")
            .expect("pairs");
        let producer = settings.producer();
        assert_eq!(producer.get("security.protocol"), Some("SASL_PLAINTEXT"));
        assert_eq!(producer.get("sasl.password"), Some("a=b"));
        assert_eq!(producer.get("linger.ms"), Some("5"));
        assert_eq!(settings.consumer("accounting").get("group.id"), Some("t-accounting"));
        let settings = Settings::new("b", "").with_properties("message.max.bytes=5000000");
        let consumer = settings.expect("pairs").consumer_within("accounting", 1024 * 1024);
        assert_eq!(consumer.get("fetch.max.bytes"), Some("5000000"));
    }

    #[test]
    fn properties_of_a_file_have_lines_of_their_own() {
        let file =
            "# the cluster of the shop\nsecurity.protocol=SASL_PLAINTEXT\r\n\nsasl.password=a#b\n";
        let settings = Settings::new("b", "").with_properties(file).expect("pairs");
        let client = settings.client();
        assert_eq!(client.get("security.protocol"), Some("SASL_PLAINTEXT"));
        assert_eq!(client.get("sasl.password"), Some("a#b"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings =
            Settings::new("b", "").with_properties("sasl.password=hunter2").expect("pairs");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(Settings::new("b", "").with_properties("no pair").is_err());
    }
}
