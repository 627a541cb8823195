//! The program `third-party`, as a child process.

use sandbox::{Process, ProcessRecord};

use crate::{Error, Launcher, Ports, admin, instance::GRACE, ports::start_on};

/// The name of its program.
pub(crate) const THIRD_PARTY: &str = "third-party";

#[derive(Debug)]
pub(crate) struct ThirdPartyProcess {
    pub(crate) port: u16,
    process: Process,
}

impl ThirdPartyProcess {
    /// Starts it on this port, or on a free one, and waits until it answers.
    pub(crate) async fn start(launcher: &Launcher, port: Option<u16>) -> Result<Self, Error> {
        // It listens on one port only.
        let given = port.map(|port| Ports { http: port, admin: port });
        start_on(given, async |Ports { http: port, .. }| {
            let address = format!("127.0.0.1:{port}");
            let mut process = launcher.spawn(THIRD_PARTY, &[], &[("HTTP_ADDR", &address)])?;
            let answers = async || {
                admin::get(port, "healthz").await.is_ok_and(|answer| answer.status().is_success())
            };
            process.until_ready(answers).await?;
            Ok(Self { port, process })
        })
        .await
    }

    pub(crate) async fn stop(&mut self) {
        self.process.stop(GRACE).await;
    }

    /// Leaves it running. Returns a record with which a later process can find it.
    pub(crate) fn detach(self) -> Result<ProcessRecord, Error> {
        let mut record = self.process.detach()?;
        record.port = Some(self.port);
        Ok(record)
    }
}
