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

/// Default memory for responses; in a container, at most an eighth of its limit.
const USUAL_HTTP_MEMORY: usize = 32 * 1024 * 1024;
const OF_CONTAINER: usize = 8;

/// A value that is never logged.
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
    /// Returns the value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Configuration of every service, by environment or flags.
#[derive(Args, Clone, Debug)]
#[group(skip)] // its name would clash with that of the service's own `Config`
pub struct Config {
    /// The service's own Postgres database, `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// Maximum number of connections to the database
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    database_connections: u32,
    /// Kafka brokers, `host:port,..`
    #[arg(long, env = "KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    /// Prefix of every topic and group
    #[arg(long, env = "KAFKA_TOPIC_PREFIX", default_value = "")]
    kafka_topic_prefix: String,
    #[command(flatten)]
    kafka_client: ClientOptions,
    /// `create` the service's missing topics, only `verify` topics, or `off`
    #[arg(long, env = "KAFKA_TOPICS", default_value = "create")]
    kafka_topics: TopicPolicy,
    /// Address of the public API [default: the service's port on 127.0.0.1]
    #[arg(long, env = "HTTP_ADDR")]
    http_addr: Option<SocketAddr>,
    /// Address of the admin port: health, metrics and operation [default: the service's admin port
    /// on 127.0.0.1]
    #[arg(long, env = "ADMIN_ADDR")]
    admin_addr: Option<SocketAddr>,
    /// How long an idle connection stays open, as in `75s`; must be longer than a load balancer in
    /// front keeps it
    #[arg(long, env = "HTTP_KEEP_ALIVE", value_parser = keep_alive, default_value = "75s")]
    http_keep_alive: Duration,
    /// Memory for responses that are being built and sent, in bytes; request bodies may take half
    /// as much; by default 32 MiB, in a container at most an eighth of its limit
    #[arg(long, env = "HTTP_MEMORY_BYTES", value_parser = clap::value_parser!(u32).range(1_048_576..))]
    http_memory_bytes: Option<u32>,
    /// API keys, `key=tenant,..` or `@file` with one per line; the file is reloaded when it changes
    #[arg(long, env = "TENANTS", hide_env_values = true)]
    tenants: Option<Secret>,
    /// Requests per second of each tenant at one instance, in the long run; 0: no limit
    #[arg(long, env = "TENANT_REQUESTS_PER_SECOND", value_parser = limit, default_value = "0")]
    tenant_requests_per_second: u32,
    /// Requests of a tenant that may arrive at once; 0: as many as in a second
    #[arg(long, env = "TENANT_BURST", value_parser = limit, default_value = "0")]
    tenant_burst: u32,
    /// Concurrent requests of a tenant at one instance; 0: no limit
    #[arg(long, env = "TENANT_REQUESTS_IN_FLIGHT", value_parser = limit, default_value = "0")]
    tenant_requests_in_flight: u32,
    /// Services that may call, with their grants: `key=/source:grant+grant,..` or `@file`. A grant
    /// is an event type, or an act such as `acknowledge`. Without it no service may call
    #[arg(long, env = "EVENT_SENDERS", hide_env_values = true)]
    event_senders: Option<Secret>,
    #[command(flatten)]
    consuming: Consuming,
    /// Operators, who may make changes on the admin port, with their tokens, `name=token,..` or
    /// `@file`
    #[arg(long, env = "OPERATOR_TOKENS", hide_env_values = true)]
    operator_tokens: Option<Secret>,
    /// Token of an operator named `operator`; without any token no changes are possible
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true)]
    operator_token: Option<Secret>,
    /// `on` lets operators inject faults into subscriptions by `PUT /faults`; not for production
    #[arg(long, env = "FAULTS", value_parser = on_or_off, default_value = "off")]
    faults: Switch,
    /// `off` records no flow steps, which `GET /flows/{id}` shows
    #[arg(long, env = "FLOW_STEPS", value_parser = off_or_on, default_value = "on")]
    flow_steps: Switch,
    /// Maximum MiB of flow steps in the database; beyond that the oldest are deleted before they
    /// are a day old
    #[arg(long, env = "FLOW_STEPS_MB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..))]
    flow_steps_mb: u32,
    /// `json` or `text` [default: text on a terminal]
    #[arg(long, env = "LOG_FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

/// A variable that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// The value is invalid. It is not shown, since it may be a secret.
    #[error("{0} can't be used: {1}")]
    Invalid(&'static str, String),
    /// The list of keys is invalid.
    #[error("{0} can't be used")]
    Keys(&'static str, #[source] KeysError),
}

impl Config {
    /// Creates a configuration for tests: free ports, the demo's tenants (`demo-acme`,
    /// `demo-globex`) and the operator token `operator`.
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

    /// Sets `DATABASE_CONNECTIONS`.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.database_connections = connections;
        self
    }

    /// Sets `TENANTS`, the API keys.
    #[must_use]
    pub fn tenants(mut self, list: &str) -> Self {
        self.tenants = Some(Secret(list.to_owned()));
        self
    }

    /// Sets `EVENT_SENDERS`: the services that may send events to `POST /events`.
    #[must_use]
    pub fn event_senders(mut self, list: &str) -> Self {
        self.event_senders = Some(Secret(list.to_owned()));
        self
    }

    /// Sets `TENANT_REQUESTS_PER_SECOND` and `TENANT_REQUESTS_IN_FLIGHT`, the limits of each
    /// tenant; 0 sets no limit.
    #[must_use]
    pub fn limiting_tenants(mut self, per_second: u32, in_flight: u32) -> Self {
        self.tenant_requests_per_second = per_second;
        self.tenant_requests_in_flight = in_flight;
        self
    }

    /// Sets `OPERATOR_TOKENS`, the operators with names.
    #[must_use]
    pub fn operator_tokens(mut self, list: &str) -> Self {
        self.operator_tokens = Some(Secret(list.to_owned()));
        self
    }

    /// Sets `KAFKA_TOPICS=verify`: no topics are created.
    #[must_use]
    pub fn verifying_topics(mut self) -> Self {
        self.kafka_topics = TopicPolicy::Verify;
        self
    }

    /// Sets `HTTP_ADDR`, the address of the public API.
    #[must_use]
    pub fn http_on(mut self, address: SocketAddr) -> Self {
        self.http_addr = Some(address);
        self
    }

    /// Sets `ADMIN_ADDR`, the address of the admin port.
    #[must_use]
    pub fn admin_on(mut self, address: SocketAddr) -> Self {
        self.admin_addr = Some(address);
        self
    }

    /// Sets `HTTP_KEEP_ALIVE`: how long a connection without a request stays open.
    #[must_use]
    pub fn keeping_alive(mut self, keep_alive: Duration) -> Self {
        self.http_keep_alive = keep_alive;
        self
    }

    /// Sets `HTTP_MEMORY_BYTES`, the memory of responses in flight.
    #[must_use]
    pub fn http_memory_bytes(mut self, bytes: u32) -> Self {
        self.http_memory_bytes = Some(bytes);
        self
    }

    /// Sets `FLOW_STEPS=off`: no flow steps are recorded.
    #[must_use]
    pub fn without_flow_steps(mut self) -> Self {
        self.flow_steps = Switch::Off;
        self
    }

    pub(crate) fn topic_policy(&self) -> TopicPolicy {
        self.kafka_topics
    }

    /// Sets `SUBSCRIBE=off`: events arrive only by `POST /events`.
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

    /// Returns the limits of each tenant at this instance.
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

    /// Returns the memory for responses in flight, in bytes.
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

    /// Returns `false` if events arrive only by `POST /events`.
    pub(crate) fn subscribes(&self) -> bool {
        self.consuming.subscribes()
    }

    /// Returns the memory that all subscriptions of the service share.
    pub(crate) fn consumer_memory(&self) -> MemoryBudget {
        self.consuming.memory()
    }

    /// Returns a subscription's options with the overrides of the environment.
    pub(crate) fn subscription_options(&self, options: &Options) -> Options {
        self.consuming.over(options)
    }

    /// Checks the options of all subscriptions against shared resources: the database connections,
    /// and the time that the service has to drain.
    pub(crate) fn check_subscriptions(
        &self,
        all: &[&Options],
        drain: Duration,
    ) -> Result<(), ConfigError> {
        consuming::check(all, self.database_connections, drain)
    }

    /// Returns the operators, who may make changes on the admin port.
    pub(crate) fn operators(&self) -> Result<Operators, ConfigError> {
        let named = self.operator_tokens.as_ref().map_or("", Secret::expose);
        let unnamed = self.operator_token.as_ref().map(Secret::expose);
        Operators::read(named, unnamed)
            .map_err(|error| ConfigError::Invalid("OPERATOR_TOKENS", error.to_string()))
    }

    /// Returns `true` if operators may inject faults into subscriptions.
    pub(crate) fn allows_faults(&self) -> bool {
        self.faults == Switch::On
    }

    /// Returns `true` if flow steps are recorded.
    pub(crate) fn records_flow_steps(&self) -> bool {
        self.flow_steps == Switch::On
    }

    /// Returns the maximum size of the flow steps in the database, in bytes.
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
        // The default is as exact since Postgres 12, and PgBouncer refuses unknown startup
        // parameters.
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

/// Parses a variable whose default is `on`, which an empty value stands for.
fn off_or_on(text: &str) -> Result<Switch, String> {
    on_or_off(if text.is_empty() { "on" } else { text })
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let limits = Duration::from_secs(1)..=Duration::from_hours(1);
    if limits.contains(&duration) { Ok(duration) } else { Err("1s to 1h are possible".to_owned()) }
}

/// Parses a limit. Zero and an empty value set no limit.
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

    #[test]
    fn a_pool_without_connections_is_refused() {
        #[derive(clap::Parser, Debug)]
        struct Flags {
            #[command(flatten)]
            _config: Config,
        }
        let parse = |connections| {
            <Flags as clap::Parser>::try_parse_from([
                "order",
                "--database-connections",
                connections,
            ])
        };
        assert!(parse("1").is_ok());
        assert!(parse("0").expect_err("none").to_string().contains("--database-connections"));
    }
}
