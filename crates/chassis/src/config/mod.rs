mod consuming;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use consumer::{MemoryBudget, Options};
use kafka::{ClientOptions, Settings, TopicPolicy};
use sqlx::postgres::PgConnectOptions;
use telemetry::LogFormat;

use self::consuming::Consuming;
use crate::admin::Operators;
use crate::http::{Keys, KeysError, Senders, TenantLimits, Tenants};

/// Bytes of responses under way; in a container, at most that part of its limit.
const USUAL_HTTP_MEMORY: usize = 32 * 1024 * 1024;
const OF_CONTAINER: usize = 8;

/// A value that no log shows.
#[derive(Clone)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What every service is told, by environment or flags.
#[derive(Args, Clone, Debug)]
#[group(skip)] // its name would be that of the service's own `Config`
pub struct Config {
    /// The service's own Postgres database, `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// Connections to it at most
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16)]
    database_connections: u32,
    /// Kafka, `host:port,..`
    #[arg(long, env = "KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    /// What precedes every topic and group
    #[arg(long, env = "KAFKA_TOPIC_PREFIX", default_value = "")]
    kafka_topic_prefix: String,
    #[command(flatten)]
    kafka_client: ClientOptions,
    /// What is done about topics: `create` those of its own that are missing, only `verify` them, or `off`
    #[arg(long, env = "KAFKA_TOPICS", default_value = "create")]
    kafka_topics: TopicPolicy,
    /// Where the public API listens [default: the service's port on 127.0.0.1]
    #[arg(long, env = "HTTP_ADDR")]
    http_addr: Option<SocketAddr>,
    /// Where health, metrics and operation listen [default: the service's admin port on 127.0.0.1]
    #[arg(long, env = "ADMIN_ADDR")]
    admin_addr: Option<SocketAddr>,
    /// How long a connection without a request stays open, as in `75s`; longer than a load balancer in front keeps it
    #[arg(long, env = "HTTP_KEEP_ALIVE", value_parser = keep_alive, default_value = "75s")]
    http_keep_alive: Duration,
    /// Bytes of responses that are made and sent at the same time; bodies of requests take half as many; by default 32 MiB, in
    /// a container at most an eighth of its limit
    #[arg(long, env = "HTTP_MEMORY_BYTES", value_parser = clap::value_parser!(u32).range(1_048_576..))]
    http_memory_bytes: Option<u32>,
    /// API keys, `key=tenant,..` or `@file` with one a line; the file is read again when it changes
    #[arg(long, env = "TENANTS", hide_env_values = true)]
    tenants: Option<Secret>,
    /// Requests per second of each tenant that one instance takes in the long run; 0: no limit
    #[arg(long, env = "TENANT_REQUESTS_PER_SECOND", value_parser = limit, default_value = "0")]
    tenant_requests_per_second: u32,
    /// Requests of a tenant that may come at once; 0: as many as in a second
    #[arg(long, env = "TENANT_BURST", value_parser = limit, default_value = "0")]
    tenant_burst: u32,
    /// Requests of a tenant that one instance handles at the same time; 0: no limit
    #[arg(long, env = "TENANT_REQUESTS_IN_FLIGHT", value_parser = limit, default_value = "0")]
    tenant_requests_in_flight: u32,
    /// Which services may call, and what each may do: `key=/source:grant+grant,..` or `@file`. A grant is an event type, or an
    /// act such as `acknowledge`. Without it none may call
    #[arg(long, env = "EVENT_SENDERS", hide_env_values = true)]
    event_senders: Option<Secret>,
    #[command(flatten)]
    consuming: Consuming,
    /// Operators, who may change something on the admin port, and what each of them shows, `name=token,..` or `@file`
    #[arg(long, env = "OPERATOR_TOKENS", hide_env_values = true)]
    operator_tokens: Option<Secret>,
    /// The token of one more, whose name is `operator`; without any token nobody can change anything
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true)]
    operator_token: Option<Secret>,
    /// `on` lets the operator make faults in subscriptions, by `PUT /faults`; not for production
    #[arg(long, env = "FAULTS", value_parser = on_or_off, default_value = "off")]
    faults: Switch,
    /// `off` records no steps of flows, which `GET /flows/{id}` shows
    #[arg(long, env = "FLOW_STEPS", value_parser = off_or_on, default_value = "on")]
    flow_steps: Switch,
    /// How many MiB the steps of flows may take in the database; beyond that the oldest go before a day is over
    #[arg(long, env = "FLOW_STEPS_MB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..))]
    flow_steps_mb: u32,
    /// `json` or `text` [default: text on a terminal]
    #[arg(long, env = "LOG_FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

/// A variable that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// Its value makes no sense. The value is not shown: it may be a secret.
    #[error("{0} can't be used: {1}")]
    Invalid(&'static str, String),
    /// A list of keys.
    #[error("{0} can't be used")]
    Keys(&'static str, #[source] KeysError),
}

impl Config {
    /// For tests: free ports, the demo's tenants (`demo-acme`, `demo-globex`) and the token `operator`.
    pub fn for_tests(database_url: &str, brokers: &str, topic_prefix: &str) -> Self {
        let secret = |text: &str| Some(Secret(text.to_owned()));
        Self {
            database_url: secret(database_url),
            database_connections: 16,
            kafka_brokers: Some(brokers.to_owned()),
            kafka_topic_prefix: topic_prefix.to_owned(),
            kafka_client: ClientOptions::default(),
            kafka_topics: TopicPolicy::Create,
            http_addr: Some((Ipv4Addr::LOCALHOST, 0).into()),
            admin_addr: Some((Ipv4Addr::LOCALHOST, 0).into()),
            http_keep_alive: Duration::from_secs(75),
            http_memory_bytes: None,
            tenants: secret("demo-acme=acme,demo-globex=globex"),
            tenant_requests_per_second: 0,
            tenant_burst: 0,
            tenant_requests_in_flight: 0,
            event_senders: None,
            consuming: Consuming::as_written(),
            operator_tokens: None,
            operator_token: secret("operator"),
            faults: Switch::On,
            flow_steps: Switch::On,
            flow_steps_mb: 1024,
            log_format: None,
        }
    }

    /// As with `DATABASE_CONNECTIONS`.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.database_connections = connections;
        self
    }

    /// As with `TENANTS`: the API keys.
    #[must_use]
    pub fn tenants(mut self, list: &str) -> Self {
        self.tenants = Some(Secret(list.to_owned()));
        self
    }

    /// As with `EVENT_SENDERS`: who may send which events to `POST /events`.
    #[must_use]
    pub fn event_senders(mut self, list: &str) -> Self {
        self.event_senders = Some(Secret(list.to_owned()));
        self
    }

    /// As with `TENANT_REQUESTS_PER_SECOND` and `TENANT_REQUESTS_IN_FLIGHT`: limits of each tenant, 0 for none.
    #[must_use]
    pub fn limiting_tenants(mut self, per_second: u32, in_flight: u32) -> Self {
        self.tenant_requests_per_second = per_second;
        self.tenant_requests_in_flight = in_flight;
        self
    }

    /// As with `OPERATOR_TOKENS`: operators with names.
    #[must_use]
    pub fn operator_tokens(mut self, list: &str) -> Self {
        self.operator_tokens = Some(Secret(list.to_owned()));
        self
    }

    /// As with `KAFKA_TOPICS=verify`: nothing is created.
    #[must_use]
    pub fn verifying_topics(mut self) -> Self {
        self.kafka_topics = TopicPolicy::Verify;
        self
    }

    /// As with `ADMIN_ADDR`: the address of the admin port.
    #[must_use]
    pub fn admin_on(mut self, address: SocketAddr) -> Self {
        self.admin_addr = Some(address);
        self
    }

    /// As with `HTTP_KEEP_ALIVE`: how long a connection without a request stays open.
    #[must_use]
    pub fn keeping_alive(mut self, keep_alive: Duration) -> Self {
        self.http_keep_alive = keep_alive;
        self
    }

    /// As with `HTTP_MEMORY_BYTES`: bytes of responses that are made and sent at the same time.
    #[must_use]
    pub fn http_memory_bytes(mut self, bytes: u32) -> Self {
        self.http_memory_bytes = Some(bytes);
        self
    }

    /// As with `FLOW_STEPS=off`: no steps of flows are recorded.
    #[must_use]
    pub fn without_flow_steps(mut self) -> Self {
        self.flow_steps = Switch::Off;
        self
    }

    pub(crate) fn topic_policy(&self) -> TopicPolicy {
        self.kafka_topics
    }

    /// As with `SUBSCRIBE=off`: events come by `POST /events` alone.
    #[must_use]
    pub fn unsubscribed(mut self) -> Self {
        self.consuming = self.consuming.unsubscribed();
        self
    }

    /// Returns the format of log lines: as configured, or the one that suits the standard output.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_else(LogFormat::fitting_stdout)
    }

    /// Returns the address of the public API: as configured, or `port` on loopback.
    pub(crate) fn http_address(&self, port: u16) -> SocketAddr {
        self.http_addr.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns the address of the admin port: as configured, or `port` on loopback.
    pub(crate) fn admin_address(&self, port: u16) -> SocketAddr {
        self.admin_addr.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns what each tenant may ask of this instance.
    pub(crate) fn tenant_limits(&self) -> TenantLimits {
        TenantLimits {
            per_second: NonZeroU32::new(self.tenant_requests_per_second),
            burst: NonZeroU32::new(self.tenant_burst),
            in_flight: NonZeroU32::new(self.tenant_requests_in_flight),
        }
    }

    /// Returns how long a connection without a request stays open.
    pub(crate) fn http_keep_alive(&self) -> Duration {
        self.http_keep_alive
    }

    /// Returns how many bytes the responses under way may take.
    pub(crate) fn http_memory(&self) -> usize {
        let given = self.http_memory_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        given.unwrap_or_else(|| {
            consumer::container_limit()
                .map_or(USUAL_HTTP_MEMORY, |limit| USUAL_HTTP_MEMORY.min(limit / OF_CONTAINER))
        })
    }

    /// Returns the maximum number of connections to the database.
    pub(crate) fn database_connections(&self) -> u32 {
        self.database_connections
    }

    /// Returns `false` if events come by `POST /events` alone.
    pub(crate) fn subscribes(&self) -> bool {
        self.consuming.subscribes()
    }

    /// Returns the memory that all subscriptions of the service share.
    pub(crate) fn consumer_memory(&self) -> MemoryBudget {
        self.consuming.memory()
    }

    /// Returns a subscription's options, with those that the environment sets in place of the code's.
    pub(crate) fn subscription_options(&self, options: &Options) -> Options {
        self.consuming.over(options)
    }

    /// Checks the options of all subscriptions against what they share with the rest of the service: its connections, and
    /// the time that it has to drain.
    pub(crate) fn check_subscriptions(
        &self,
        all: &[&Options],
        drain: Duration,
    ) -> Result<(), ConfigError> {
        consuming::check(all, self.database_connections, drain)
    }

    /// Returns who may change something on the admin port.
    pub(crate) fn operators(&self) -> Result<Operators, ConfigError> {
        let named = self.operator_tokens.as_ref().map_or("", Secret::expose);
        let unnamed = self.operator_token.as_ref().map(Secret::expose);
        Operators::read(named, unnamed)
            .map_err(|error| ConfigError::Invalid("OPERATOR_TOKENS", error.to_string()))
    }

    /// Returns `true` if the operator may make faults in subscriptions.
    pub(crate) fn allows_faults(&self) -> bool {
        self.faults == Switch::On
    }

    /// Returns `true` if steps of flows are recorded.
    pub(crate) fn records_flow_steps(&self) -> bool {
        self.flow_steps == Switch::On
    }

    /// Returns how many bytes the steps of flows may take in the database.
    pub(crate) fn flow_steps_bytes(&self) -> u64 {
        u64::from(self.flow_steps_mb) * 1024 * 1024
    }

    pub(crate) fn database(&self) -> Result<PgConnectOptions, ConfigError> {
        let url = self.database_url.as_ref().ok_or(ConfigError::Missing(
            "DATABASE_URL",
            "give the service's own database as postgres://user:password@host/database",
        ))?;
        let options = PgConnectOptions::from_str(url.expose()).map_err(|_| {
            let form = "it is not of the form postgres://user:password@host/database";
            ConfigError::Invalid("DATABASE_URL", form.to_owned())
        })?;
        // Since Postgres 12 the default is as exact, and PgBouncer refuses a startup parameter that it does not know.
        Ok(options.extra_float_digits(None))
    }

    pub(crate) fn kafka(&self) -> Result<Settings, ConfigError> {
        let brokers = self.kafka_brokers.as_deref().filter(|brokers| !brokers.is_empty());
        let brokers =
            brokers.ok_or(ConfigError::Missing("KAFKA_BROKERS", "give Kafka as host:port"))?;
        let settings = Settings::new(brokers, &self.kafka_topic_prefix);
        self.kafka_client
            .apply(settings)
            .map_err(|error| ConfigError::Invalid(error.variable, error.why))
    }

    pub(crate) fn known_tenants(&self) -> Result<Tenants, ConfigError> {
        let list = self.tenants.as_ref().ok_or(ConfigError::Missing(
            "TENANTS",
            "give the API keys as key=tenant,.. or as @file",
        ))?;
        Tenants::read(list.expose()).map_err(|error| ConfigError::Keys("TENANTS", error))
    }

    pub(crate) fn senders(&self) -> Result<Senders, ConfigError> {
        let list = self.event_senders.as_ref().filter(|list| !list.expose().is_empty());
        list.map_or_else(|| Ok(Keys::none()), |list| Senders::read(list.expose()))
            .map_err(|error| ConfigError::Keys("EVENT_SENDERS", error))
    }
}

/// A variable that is `on` or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Switch {
    On,
    Off,
}

fn on_or_off(text: &str) -> Result<Switch, String> {
    match text {
        "on" => Ok(Switch::On),
        "off" | "" => Ok(Switch::Off),
        _ => Err("it is neither on nor off".to_owned()),
    }
}

/// For a variable whose default is `on`, also where it is set to nothing.
fn off_or_on(text: &str) -> Result<Switch, String> {
    on_or_off(if text.is_empty() { "on" } else { text })
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let limits = Duration::from_secs(1)..=Duration::from_hours(1);
    if limits.contains(&duration) { Ok(duration) } else { Err("1s to 1h are possible".to_owned()) }
}

/// For a number where 0, or nothing, sets no limit.
fn limit(text: &str) -> Result<u32, std::num::ParseIntError> {
    if text.is_empty() { Ok(0) } else { text.parse() }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it is neither json nor text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_variable_and_shows_no_secret() {
        let mut config = Config::for_tests("postgres://u:hunter2@[", "b:1", "");
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = config.database().expect_err("no URL").to_string();
        assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
        config.database_url = None;
        assert!(
            config.database().expect_err("missing").to_string().contains("DATABASE_URL is not set")
        );
        config.kafka_client = ClientOptions::default().properties("no.such.property=hunter2");
        let error = config.kafka().expect_err("unknown").to_string();
        assert!(
            error.contains("KAFKA_PROPERTIES") && error.contains("no.such.property"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        config.kafka_brokers = Some(String::new());
        assert!(config.kafka().expect_err("empty").to_string().contains("KAFKA_BROKERS"));
    }
}
