//! Connection and authentication of a program's clients, configured by environment or flags.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;

use crate::Settings;
use crate::protocol::Protocol;
use crate::settings::read_properties;

/// The protocol, credentials and certificates of the connections to the brokers, and further
/// librdkafka properties.
///
/// An empty value counts as not set. [`apply`](Self::apply) checks them together. With the feature
/// `clap` they are arguments of a program, each named like its environment variable. Secrets hide
/// their values, so that a program that parses them with `orderflow-settings` accepts
/// `KAFKA_SASL_PASSWORD_FILE` and the like too.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", group(skip), command(next_help_heading = "Kafka's security"))]
#[expect(clippy::struct_field_names, reason = "clap derives the variables' names from the fields'")]
pub struct ClientOptions {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl` [default: plaintext]
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_security_protocol: Option<String>,
    /// `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_sasl_mechanism: Option<String>,
    /// The user that Kafka authenticates
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_sasl_username: Option<String>,
    /// The user's password
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true, hide_env_values = true))]
    kafka_sasl_password: Option<Hidden>,
    /// PEM file with the certificates of the authorities to trust [default: the system's]
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_ssl_ca_location: Option<String>,
    /// PEM file with the client's certificate, for brokers that require one
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_ssl_certificate_location: Option<String>,
    /// PEM file with the key of that certificate
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true))]
    kafka_ssl_key_location: Option<String>,
    /// The password of that key
    #[cfg_attr(feature = "clap", arg(long, env, hide_short_help = true, hide_env_values = true))]
    kafka_ssl_key_password: Option<Hidden>,
    /// Further librdkafka properties, `property=value,..`; they override all others
    #[cfg_attr(feature = "clap", arg(long, alias = "properties", env))]
    #[cfg_attr(feature = "clap", arg(hide_short_help = true, hide_env_values = true))]
    kafka_properties: Option<Hidden>,
}

/// An invalid variable. Its value is not shown, since it may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{variable} can't be used: {why}")]
pub struct OptionsError {
    /// The variable to change.
    pub variable: &'static str,
    /// Why it is invalid.
    pub why: String,
}

impl OptionsError {
    fn new(variable: &'static str, why: impl Into<String>) -> Self {
        Self { variable, why: why.into() }
    }
}

/// A value that no log shows.
#[derive(Clone, Default)]
struct Hidden(String);

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ClientOptions {
    /// Sets `KAFKA_PROPERTIES`: further librdkafka properties.
    #[must_use]
    pub fn properties(mut self, properties: &str) -> Self {
        self.kafka_properties = Some(Hidden(properties.to_owned()));
        self
    }

    /// Sets `KAFKA_SECURITY_PROTOCOL`.
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.kafka_security_protocol = Some(protocol.to_owned());
        self
    }

    /// Sets `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME` and `KAFKA_SASL_PASSWORD`.
    #[must_use]
    pub fn sasl(mut self, mechanism: &str, username: &str, password: &str) -> Self {
        self.kafka_sasl_mechanism = Some(mechanism.to_owned());
        self.kafka_sasl_username = Some(username.to_owned());
        self.kafka_sasl_password = Some(Hidden(password.to_owned()));
        self
    }

    /// Sets `KAFKA_SSL_CA_LOCATION`.
    #[must_use]
    pub fn ca(mut self, file: &str) -> Self {
        self.kafka_ssl_ca_location = Some(file.to_owned());
        self
    }

    /// Sets `KAFKA_SSL_CERTIFICATE_LOCATION` and `KAFKA_SSL_KEY_LOCATION`.
    #[must_use]
    pub fn certificate(mut self, certificate: &str, key: &str) -> Self {
        self.kafka_ssl_certificate_location = Some(certificate.to_owned());
        self.kafka_ssl_key_location = Some(key.to_owned());
        self
    }

    /// Returns `settings` with these options. Does not connect.
    ///
    /// # Errors
    /// Fails if the options contradict each other, a file can't be read, or librdkafka can't create
    /// a consumer or a producer with them, for example because a property does not exist or TLS is
    /// not built in (the feature `tls`).
    pub fn apply(&self, settings: Settings) -> Result<Settings, OptionsError> {
        let properties = hidden(self.kafka_properties.as_ref()).unwrap_or_default();
        let properties = read_properties(properties).map_err(|_| {
            let why = "it is not of the form property=value,property=value";
            OptionsError::new("KAFKA_PROPERTIES", why)
        })?;
        let protocol = match given(self.kafka_security_protocol.as_ref()) {
            Some(protocol) => Some(Protocol::read(protocol).ok_or_else(|| {
                let why = "it is none of plaintext, ssl, sasl_plaintext and sasl_ssl";
                OptionsError::new("KAFKA_SECURITY_PROTOCOL", why)
            })?),
            None => None,
        };
        let mut pairs = Vec::new();
        match protocol {
            Some(protocol) => self.secure(protocol, &mut pairs)?,
            // librdkafka checks values set by properties.
            None if properties.iter().any(|(name, _)| name == "security.protocol") => {
                self.tls(&mut pairs)?;
                self.sasl_pairs(&mut pairs)?;
            }
            None => self.secure(Protocol::Plaintext, &mut pairs)?,
        }
        let settings = settings.with_pairs(pairs).with_pairs(properties);
        check_partitioner(&settings)?;
        self.check(&settings)?;
        Ok(settings)
    }

    fn secure(&self, protocol: Protocol, pairs: &mut Pairs) -> Result<(), OptionsError> {
        let unused = |variable| {
            let why = format!("KAFKA_SECURITY_PROTOCOL is {protocol}, which does not use it");
            Err(OptionsError::new(variable, why))
        };
        pairs.push(("security.protocol", protocol.to_string()));
        if protocol.has_sasl() {
            self.require_sasl()?;
            self.sasl_pairs(pairs)?;
        } else if let Some(variable) = self.first_of_sasl() {
            return unused(variable);
        }
        if protocol.has_tls() {
            self.tls(pairs)?;
        } else if let Some(variable) = self.first_of_tls() {
            return unused(variable);
        }
        Ok(())
    }

    /// Fails if an option is missing that every mechanism needs.
    fn require_sasl(&self) -> Result<(), OptionsError> {
        let missing =
            |variable| Err(OptionsError::new(variable, "SASL needs it, and it is not set"));
        if given(self.kafka_sasl_mechanism.as_ref()).is_none() {
            return missing("KAFKA_SASL_MECHANISM");
        }
        if given(self.kafka_sasl_username.as_ref()).is_none() {
            return missing("KAFKA_SASL_USERNAME");
        }
        if hidden(self.kafka_sasl_password.as_ref()).is_none() {
            return missing("KAFKA_SASL_PASSWORD");
        }
        Ok(())
    }

    fn sasl_pairs(&self, pairs: &mut Pairs) -> Result<(), OptionsError> {
        if let Some(mechanism) = given(self.kafka_sasl_mechanism.as_ref()) {
            let mechanism = mechanism.to_ascii_uppercase();
            if !MECHANISMS.contains(&mechanism.as_str()) {
                let why = "it is none of SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN";
                return Err(OptionsError::new("KAFKA_SASL_MECHANISM", why));
            }
            pairs.push(("sasl.mechanism", mechanism));
        }
        if let Some(username) = given(self.kafka_sasl_username.as_ref()) {
            pairs.push(("sasl.username", username.to_owned()));
        }
        if let Some(password) = hidden(self.kafka_sasl_password.as_ref()) {
            pairs.push(("sasl.password", password.to_owned()));
        }
        Ok(())
    }

    fn tls(&self, pairs: &mut Pairs) -> Result<(), OptionsError> {
        let certificate =
            ("KAFKA_SSL_CERTIFICATE_LOCATION", given(self.kafka_ssl_certificate_location.as_ref()));
        let key = ("KAFKA_SSL_KEY_LOCATION", given(self.kafka_ssl_key_location.as_ref()));
        for (one, other) in [(certificate, key), (key, certificate)] {
            if one.1.is_some() && other.1.is_none() {
                let why = format!("{} is set, and is of no use without it", one.0);
                return Err(OptionsError::new(other.0, why));
            }
        }
        let ca = ("KAFKA_SSL_CA_LOCATION", given(self.kafka_ssl_ca_location.as_ref()));
        let properties = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"];
        for (property, (variable, file)) in properties.into_iter().zip([ca, certificate, key]) {
            let Some(file) = file else { continue };
            check_readable(variable, file)?;
            pairs.push((property, file.to_owned()));
        }
        if let Some(password) = hidden(self.kafka_ssl_key_password.as_ref()) {
            pairs.push(("ssl.key.password", password.to_owned()));
        }
        Ok(())
    }

    /// Returns the first set variable of those that only SASL uses.
    fn first_of_sasl(&self) -> Option<&'static str> {
        let all = [
            ("KAFKA_SASL_MECHANISM", given(self.kafka_sasl_mechanism.as_ref())),
            ("KAFKA_SASL_USERNAME", given(self.kafka_sasl_username.as_ref())),
            ("KAFKA_SASL_PASSWORD", hidden(self.kafka_sasl_password.as_ref())),
        ];
        all.into_iter().find(|(_, value)| value.is_some()).map(|(variable, _)| variable)
    }

    /// Returns the first set variable of those that only TLS uses.
    fn first_of_tls(&self) -> Option<&'static str> {
        let all = [
            ("KAFKA_SSL_CA_LOCATION", given(self.kafka_ssl_ca_location.as_ref())),
            ("KAFKA_SSL_CERTIFICATE_LOCATION", given(self.kafka_ssl_certificate_location.as_ref())),
            ("KAFKA_SSL_KEY_LOCATION", given(self.kafka_ssl_key_location.as_ref())),
            ("KAFKA_SSL_KEY_PASSWORD", hidden(self.kafka_ssl_key_password.as_ref())),
        ];
        all.into_iter().find(|(_, value)| value.is_some()).map(|(variable, _)| variable)
    }

    /// Creates and drops a client of each kind: librdkafka checks its properties at once, and
    /// connects later.
    fn check(&self, settings: &Settings) -> Result<(), OptionsError> {
        let secured = given(self.kafka_security_protocol.as_ref()).is_some();
        let variable = if secured { "KAFKA_SECURITY_PROTOCOL" } else { "KAFKA_PROPERTIES" };
        let client = settings.client();
        check_client(variable, &client, client.create::<BaseConsumer>())?;
        // The first client had the same protocol, so that it is not the cause from here on. Without
        // a group, a consumer leaves none when it is dropped.
        let mut consumer = settings.consumer("check");
        consumer.remove("group.id");
        check_client("KAFKA_PROPERTIES", &consumer, consumer.create::<BaseConsumer>())?;
        let producer = settings.producer();
        check_client("KAFKA_PROPERTIES", &producer, producer.create::<BaseProducer>())
    }
}

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];

type Pairs = Vec<(&'static str, String)>;

fn given(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

fn hidden(value: Option<&Hidden>) -> Option<&str> {
    given(value.map(|it| &it.0))
}

/// Fails if the properties choose another partitioner than the relay's own, since events of a key
/// would be in two partitions.
fn check_partitioner(settings: &Settings) -> Result<(), OptionsError> {
    match settings.producer().get("partitioner") {
        // They differ only for records without a key.
        Some("murmur2_random" | "murmur2") | None => Ok(()),
        Some(_) => {
            let why =
                "partitioner: events are partitioned by murmur2_random, as the Java clients do";
            Err(OptionsError::new("KAFKA_PROPERTIES", why))
        }
    }
}

/// Fails if a client could not be created, by the fault of this variable or of a property.
fn check_client<T>(
    variable: &'static str,
    config: &ClientConfig,
    client: KafkaResult<T>,
) -> Result<(), OptionsError> {
    match client {
        Ok(_) => Ok(()),
        // Leaves out the value: it may be a password, and librdkafka's reason may quote it.
        Err(KafkaError::ClientConfig(_, why, property, _)) => {
            let why = match config.get(&property) {
                Some(value) if !value.is_empty() => why.replace(value, ".."),
                _ => why,
            };
            let variable = match &*property {
                "security.protocol" => variable,
                _ => "KAFKA_PROPERTIES",
            };
            Err(OptionsError::new(variable, format!("{property}: {why}{}", without_tls())))
        }
        Err(error) => Err(OptionsError::new(variable, format!("{error}{}", without_tls()))),
    }
}

/// Fails if a file can't be read; librdkafka's own error would not name the file.
fn check_readable(variable: &'static str, file: &str) -> Result<(), OptionsError> {
    let refused = |error| OptionsError::new(variable, format!("{file}: {error}"));
    fs::read(Path::new(file)).map(drop).map_err(refused)
}

/// Returns the hint that a build without TLS adds to librdkafka's reason.
fn without_tls() -> &'static str {
    if cfg!(feature = "tls") {
        ""
    } else {
        " (this program was built without TLS and SCRAM to Kafka: the feature `tls` of orderflow-kafka)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &ClientOptions) -> Result<Settings, OptionsError> {
        options.apply(Settings::new("b:1", ""))
    }

    /// Checks the message, which must not tell a password.
    fn refused(options: &ClientOptions, variable: &str, why: &str) {
        let error = settings(options).expect_err("can't be used").to_string();
        assert!(error.starts_with(&format!("{variable} can't be used")), "{error}");
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn credentials_reach_every_client_and_no_log() {
        let options =
            ClientOptions::default().protocol("SASL_PLAINTEXT").sasl("plain", "billing", "hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
        let settings = settings(&options).expect("usable");
        assert!(!format!("{settings:?}").contains("hunter2"));
        for client in [settings.client(), settings.producer(), settings.consumer("billing")] {
            assert_eq!(client.get("security.protocol"), Some("sasl_plaintext"));
            assert_eq!(client.get("sasl.mechanism"), Some("PLAIN"));
            assert_eq!(client.get("sasl.username"), Some("billing"));
            assert_eq!(client.get("sasl.password"), Some("hunter2"));
        }
    }

    #[test]
    fn a_password_may_hold_commas() {
        let options = ClientOptions::default().protocol("sasl_plaintext");
        let client = settings(&options.sasl("PLAIN", "u", "a,b=c")).expect("usable").client();
        assert_eq!(client.get("sasl.password"), Some("a,b=c"));
    }

    #[test]
    fn what_is_missing_or_not_used_is_named() {
        let plain = ClientOptions::default;
        let sasl = || plain().protocol("sasl_plaintext");
        refused(&plain().protocol("tls"), "KAFKA_SECURITY_PROTOCOL", "none of");
        refused(&sasl(), "KAFKA_SASL_MECHANISM", "not set");
        refused(&sasl().sasl("GSSAPI", "u", "hunter2"), "KAFKA_SASL_MECHANISM", "none of");
        refused(&sasl().sasl("PLAIN", "", "hunter2"), "KAFKA_SASL_USERNAME", "not set");
        refused(&sasl().sasl("PLAIN", "u", ""), "KAFKA_SASL_PASSWORD", "not set");
        // Credentials that would never be sent, and a certificate that would never be checked.
        refused(&plain().sasl("PLAIN", "u", "hunter2"), "KAFKA_SASL_MECHANISM", "plaintext");
        refused(&plain().ca("/ca.pem"), "KAFKA_SSL_CA_LOCATION", "does not use it");
        refused(
            &plain().protocol("ssl").ca("/no/such.pem"),
            "KAFKA_SSL_CA_LOCATION",
            "No such file",
        );
        let half = plain().protocol("ssl").certificate("/c.pem", "");
        refused(&half, "KAFKA_SSL_KEY_LOCATION", "CERTIFICATE");
        refused(&plain().properties("no pair"), "KAFKA_PROPERTIES", "form");
        refused(&plain().properties("no.such=hunter2"), "KAFKA_PROPERTIES", "no.such");
        refused(&plain().properties("partitioner=fnv1a"), "KAFKA_PROPERTIES", "murmur2_random");
        assert!(settings(&plain().properties("partitioner=murmur2_random")).is_ok());
        // One property to librdkafka, which quotes its value.
        let joined = plain().properties("security.protocol=ssl;sasl.password=hunter2");
        refused(&joined, "KAFKA_PROPERTIES", "security.protocol");
    }

    #[test]
    fn properties_that_only_a_producer_refuses_end_the_start() {
        let plain = ClientOptions::default;
        refused(&plain().properties("acks=1"), "KAFKA_PROPERTIES", "acks");
        let secured = plain().protocol("sasl_plaintext").sasl("PLAIN", "u", "hunter2");
        refused(&secured.properties("acks=1"), "KAFKA_PROPERTIES", "acks");
    }

    #[test]
    fn properties_that_only_a_consumer_refuses_end_the_start() {
        // Its timeouts are the broker's, and the consumers of this crate set their own.
        let broker_side = ClientOptions::default().properties("group.protocol=consumer");
        refused(&broker_side, "KAFKA_PROPERTIES", "session.timeout.ms");
    }

    #[test]
    fn a_comment_is_no_protocol() {
        let commented = ClientOptions::default()
            .properties("# security.protocol=sasl_plaintext\nlinger.ms=5")
            .sasl("PLAIN", "u", "hunter2");
        refused(&commented, "KAFKA_SASL_MECHANISM", "plaintext");
    }

    #[test]
    fn properties_win_and_empty_values_are_not_set() {
        let empty = ClientOptions::default().protocol("").sasl("", "", "").ca("").properties("");
        assert_eq!(settings(&empty).expect("usable").client().get("sasl.mechanism"), None);
        let options = ClientOptions::default()
            .properties("security.protocol=sasl_plaintext,sasl.mechanism=PLAIN")
            .sasl("", "u", "p");
        let client = settings(&options).expect("usable").client();
        assert_eq!(client.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(client.get("sasl.username"), Some("u"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        refused(
            &ClientOptions::default().protocol("ssl"),
            "KAFKA_SECURITY_PROTOCOL",
            "without TLS",
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_certificate_that_is_none_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        fs::write(&file, "no certificate").expect("written");
        let options = ClientOptions::default().protocol("ssl").ca(file.to_str().expect("UTF-8"));
        refused(&options, "KAFKA_SECURITY_PROTOCOL", "ssl.ca.location");
    }
}
