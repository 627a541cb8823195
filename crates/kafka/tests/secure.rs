//! A real broker that speaks TLS, authenticates by SCRAM and asks for certificates. Needs the
//! feature `tls`.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::{ClientOptions, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sandbox::{Kafka, ServerOptions, Silent, Tools};
use tempfile::TempDir;

/// A password that a list of properties could not hold.
const PASSWORD: &str = "a,b=c";

/// A broker with a listener for each way to authenticate.
struct Secure {
    kafka: Kafka,
    /// Holds certificates and keys.
    folder: TempDir,
    scram: String,
    mutual: String,
}

impl Secure {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificates(folder.path());
        let [plain, controller, scram, mutual] = [(); 4].map(|()| sandbox::port::free().unwrap());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let settings = [
            (
                "listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},\
                     SCRAM://127.0.0.1:{scram},MUTUAL://127.0.0.1:{mutual}"
                ),
            ),
            (
                "advertised.listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{plain},SCRAM://127.0.0.1:{scram},MUTUAL://127.0.0.1:{mutual}"
                ),
            ),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL".into(),
            ),
            ("ssl.keystore.type", "PEM".into()),
            ("ssl.keystore.location", file("broker.pem")),
            ("ssl.truststore.type", "PEM".into()),
            ("ssl.truststore.location", file("ca.pem")),
            ("listener.name.mutual.ssl.client.auth", "required".into()),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512".into()),
            (
                "listener.name.scram.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
            ),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let options = ServerOptions { port: Some(plain), settings, ..ServerOptions::default() };
        let kafka = Kafka::start(options, &Tools::find().unwrap(), &Silent).await.unwrap();
        let credentials = format!("SCRAM-SHA-512=[password={PASSWORD}]");
        let arguments =
            ["--alter", "--entity-type", "users", "--entity-name", "billing", "--add-config"];
        let arguments = [&arguments[..], &[&credentials]].concat();
        kafka.run_tool("kafka.admin.ConfigCommand", &arguments).await.unwrap();
        let [scram, mutual] = [scram, mutual].map(|port| format!("127.0.0.1:{port}"));
        Self { kafka, folder, scram, mutual }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// Writes a CA, its certificates for the broker and for a client, and a second CA that signed
/// neither.
fn write_certificates(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ca, other) = (authority("ours"), authority("theirs"));
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    let (broker, client) = (signed("127.0.0.1"), signed("billing"));
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("other-ca.pem"), other.pem()).unwrap();
    fs::write(folder.join("broker.pem"), format!("{}{}", broker.1, broker.0)).unwrap();
    fs::write(folder.join("client.pem"), client.0).unwrap();
    fs::write(folder.join("client.key"), client.1).unwrap();
}

/// Asks the broker for its brokers for so long.
fn answers(brokers: &str, options: &ClientOptions, patience: Duration) -> Result<(), String> {
    let settings = options.apply(Settings::new(brokers, "")).map_err(|error| error.to_string())?;
    let client: BaseConsumer = settings.client().create().unwrap();
    let until = Instant::now() + patience;
    loop {
        match client.fetch_metadata(None, Duration::from_secs(2)) {
            Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
            answer if Instant::now() > until => return Err(format!("{:?}", answer.err())),
            _ => {}
        }
    }
}

fn refuses(brokers: &str, options: &ClientOptions) {
    assert!(answers(brokers, options, Duration::from_secs(2)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_reached_with_the_right_credentials_and_no_others() {
    let secure = Secure::start().await;
    let long = Duration::from_secs(20);
    tokio::task::block_in_place(|| {
        let scram = || ClientOptions::default().protocol("sasl_ssl").ca(&secure.file("ca.pem"));
        let user = |password| scram().sasl("SCRAM-SHA-512", "billing", password);
        answers(&secure.scram, &user(PASSWORD), long).unwrap();
        refuses(&secure.scram, &user("wrong"));
        refuses(&secure.scram, &user(PASSWORD).ca(&secure.file("other-ca.pem")));
        refuses(&secure.scram, &ClientOptions::default());

        let mutual = || ClientOptions::default().protocol("ssl").ca(&secure.file("ca.pem"));
        let certified =
            mutual().certificate(&secure.file("client.pem"), &secure.file("client.key"));
        answers(&secure.mutual, &certified, long).unwrap();
        refuses(&secure.mutual, &mutual());
    });
    secure.kafka.stop().await;
}
