//! `orderflow serve`, as a child process.

use std::env;

use sandbox::{Process, ProcessRecord};

use crate::{Error, Instance, Launcher, admin, instance::GRACE};

/// The name of its program.
pub(crate) const OPS: &str = "orderflow";

/// A running `orderflow serve`.
#[derive(Debug)]
pub struct OpsProcess {
    /// The port of the console, on 127.0.0.1.
    pub port: u16,
    process: Process,
}

impl OpsProcess {
    /// Starts it on this port for these services, with this operator's token, and waits until it
    /// answers.
    ///
    /// # Errors
    /// [`Error::NoProgram`], and [`Error::Sandbox`] if it ends instead or does not answer.
    pub async fn start(
        launcher: &Launcher,
        services: &[Instance],
        token: &str,
        port: u16,
    ) -> Result<Self, Error> {
        let admin = |it: &Instance| format!("{}=http://127.0.0.1:{}", it.process.name(), it.admin);
        let services: Vec<_> = services.iter().map(admin).collect();
        let mut settings = vec![
            ("CONSOLE_ADDR".to_owned(), format!("127.0.0.1:{port}")),
            ("ORDERFLOW_SERVICES".to_owned(), services.join(",")),
            ("KAFKA_BROKERS".to_owned(), launcher.brokers.clone()),
            ("OPERATOR_TOKEN".to_owned(), token.to_owned()),
        ];
        // No service of the playground exports traces, so the caller has to name a viewer. The
        // caller also decides where alerts are sent; by default they are logged.
        settings.push(("JAEGER_URL".to_owned(), "off".to_owned()));
        let wanted = ["ALERT_WEBHOOK", "ALERT_WEBHOOK_SECRET", "JAEGER_URL", "RUST_LOG"];
        settings.extend(env::vars().filter(|(name, _)| wanted.contains(&name.as_str())));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut process = launcher.spawn(OPS, &["serve"], &settings)?;
        let answers = async || {
            admin::get(port, "healthz").await.is_ok_and(|answer| answer.status().is_success())
        };
        process.until_ready(answers).await?;
        Ok(Self { port, process })
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub async fn stop(&mut self) {
        self.process.stop(GRACE).await;
    }

    /// Leaves it running. Returns a record with which a later process can find it.
    pub(crate) fn detach(self) -> Result<ProcessRecord, Error> {
        let mut record = self.process.detach()?;
        record.port = Some(self.port);
        Ok(record)
    }
}
