use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

/// librdkafka's maximum request size, less framing.
const LARGEST_RECORD: &str = "100000000";
/// Bytes of a partition in one fetch. A larger record is fetched alone.
const FETCHED_AT_ONCE: usize = 2 * 1024 * 1024;
/// librdkafka's default.
const CLIENTS_MESSAGE_MAX_BYTES: usize = 1_000_000;
/// Bytes that end a broker's wait for more records.
const ENOUGH: usize = 64 * 1024;
/// How long a broker holds a fetch to which it has nothing to answer.
const LONG_POLL: Duration = Duration::from_millis(100);

/// How a consumer fetches records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// About how many bytes of records are kept that were not polled; 8 MiB by default. The client
    /// holds as much again in responses that it is receiving.
    pub buffer: usize,
    /// How long a broker collects records, up to 64 KiB, before it answers. Zero, the default: it
    /// answers as soon as there is one.
    pub wait: Duration,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { buffer: 8 * 1024 * 1024, wait: Duration::ZERO }
    }
}

/// Properties that are not `key=value` pairs.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not of the form property=value,property=value")]
pub struct SettingsError(String);

/// Address of Kafka, and settings shared by all clients of a process.
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
    /// Creates settings. `brokers` is `host:port,..`; `prefix` precedes every topic and group id,
    /// so that systems (and tests) can share a cluster.
    pub fn new(brokers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), prefix: prefix.into(), properties: Vec::new() }
    }

    /// Adds properties with arbitrary values.
    pub(crate) fn with_pairs<K: Into<String>>(mut self, pairs: Vec<(K, String)>) -> Self {
        self.properties.extend(pairs.into_iter().map(|(key, value)| (key.into(), value)));
        self
    }

    /// Adds librdkafka properties (TLS, SASL, tuning), `property=value,property=value`, which
    /// override those of this crate. In a file each may have its own line, and lines that begin
    /// with `#` are comments.
    ///
    /// # Errors
    /// Fails if an entry has no `=`.
    pub fn with_properties(self, properties: &str) -> Result<Self, SettingsError> {
        Ok(self.with_pairs(read_properties(properties)?))
    }

    /// Returns the name of a topic or group on the cluster.
    pub fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the name without the prefix, or unchanged if it does not have this prefix.
    pub fn unprefixed<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&self.prefix).unwrap_or(name)
    }

    /// Returns the configuration of a client that only sends requests for metadata.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        // Reconnects to a recovered broker within one second instead of ten.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        // librdkafka's default for producers lets a request for metadata create a topic, with the
        // broker's partitions and retention.
        config.set("allow.auto.create.topics", "false");
        self.finish(config)
    }

    /// Returns the configuration of a producer that never abandons a record: a record fails only if
    /// the broker refuses it. The key determines the partition as in the Java clients.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // With two requests in flight, librdkafka reports a refused first one as delivered when
            // the second one is; and in a partition that is new to this producer, a broker accepts
            // the second one.
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random")
            // The topic's limit applies; the client's own must not be lower.
            .set("message.max.bytes", LARGEST_RECORD)
            .set("queue.buffering.max.kbytes", "65536");
        self.finish(config)
    }

    /// Returns the configuration of a consumer that stores its offsets explicitly and rebalances
    /// cooperatively.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        self.consumer_with(group, Fetch::default())
    }

    /// Returns the same configuration, with another way to fetch.
    pub fn consumer_with(&self, group: &str, fetch: Fetch) -> ClientConfig {
        let Fetch { buffer, wait } = fetch;
        let (enough, wait) = if wait.is_zero() { (1, LONG_POLL) } else { (ENOUGH, wait) };
        let mut config = self.client();
        config
            .set("group.id", self.prefixed(group))
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            // librdkafka's default, `latest`, skips records from before the first commit.
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // How soon new partitions and new topics are noticed.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // How long a dead instance's partitions wait for another instance.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "3000")
            .set("queued.max.messages.kbytes", (buffer / 1024).to_string())
            // Limit of one response; a broker sends a larger record anyway. librdkafka requires at
            // least its own message.max.bytes.
            .set("fetch.max.bytes", buffer.max(self.message_max_bytes()).to_string())
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.min.bytes", enough.min(buffer).to_string())
            .set("fetch.wait.max.ms", wait.as_millis().to_string())
            .set("fetch.message.max.bytes", buffer.min(FETCHED_AT_ONCE).to_string());
        self.finish(config)
    }

    /// Returns the value in the properties, or the client's default.
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

/// Returns the pairs of a list of properties, without comments.
pub(crate) fn read_properties(properties: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let lines = properties.lines().filter(|line| !line.trim_start().starts_with('#'));
    let pairs = lines.flat_map(|line| line.split(',')).map(str::trim);
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').ok_or_else(|| SettingsError(pair.to_owned()))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

/// Shows only the names of properties, since values may be passwords.
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
    fn no_client_has_a_broker_create_topics() {
        let settings = Settings::new("localhost:9092", "");
        for config in [settings.client(), settings.producer(), settings.consumer("accounting")] {
            assert_eq!(config.get("allow.auto.create.topics"), Some("false"));
        }
    }

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
        let fetch = Fetch { buffer: 1024 * 1024, ..Fetch::default() };
        let consumer = settings.expect("pairs").consumer_with("accounting", fetch);
        assert_eq!(consumer.get("fetch.max.bytes"), Some("5000000"));
    }

    #[test]
    fn a_broker_answers_the_first_record_unless_it_is_told_to_wait() {
        let settings = Settings::new("b", "");
        let fetched = |wait: u64| {
            let fetch = Fetch { wait: Duration::from_millis(wait), ..Fetch::default() };
            let config = settings.consumer_with("accounting", fetch);
            ["fetch.min.bytes", "fetch.wait.max.ms"]
                .map(|name| config.get(name).map(ToOwned::to_owned).unwrap_or_default())
        };
        assert_eq!(fetched(0), ["1", "100"]);
        assert_eq!(fetched(50), ["65536", "50"]);
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
