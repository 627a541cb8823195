//! The whole system: Postgres, Kafka, and every service as a process of its own.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use futures::future::{join_all, try_join_all};
use kafka::Settings;
use sandbox::{Console, Life, Process, Record, Servers, ServersOptions, Tools, step};

use crate::{error::Error, http, records::Group};

/// A service: the name of its binary and its database, and the ports that it has in `.local`.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) http: u16,
    pub(crate) admin: u16,
    /// The topic by which it is seen that it hears the others: that its group reads it.
    hears: Option<&'static str>,
}

/// All there are. One more is a line here, and its package in the Makefile's `SERVICES`.
pub(crate) const SERVICES: [Service; 4] = [
    Service { name: "order", http: 8081, admin: 9181, hears: None },
    Service { name: "billing", http: 8082, admin: 9182, hears: Some("order.completed") },
    Service { name: "notification", http: 8083, admin: 9183, hears: Some("order.completed") },
    Service { name: "analytics", http: 8084, admin: 9184, hears: Some("order.completed") },
];

/// How long a service may take to drain.
pub(crate) const GRACE: std::time::Duration = std::time::Duration::from_secs(12);

/// A tenant of the demo, and its API key.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
}

pub(crate) const ACME: Tenant = Tenant { name: "acme", key: "demo-acme" };
pub(crate) const GLOBEX: Tenant = Tenant { name: "globex", key: "demo-globex" };
/// The order service's credential for `POST /events` at the others.
const EVENT_SENDERS: &str = "demo-order=/order:order.created+order.updated+order.completed";
pub(crate) const OPERATOR_TOKEN: &str = "demo-operator";

/// Where and how to run it.
pub(crate) enum Place {
    /// Free ports and temporary folders; ends with this process.
    Passing,
    /// The fixed ports, except for Postgres' which is given; data in this folder, logs in its `log`.
    Lasting { folder: PathBuf, postgres_port: u16 },
}

/// The system, running. Dropped, all of it ends at once.
pub(crate) struct System {
    // Dropped in this order.
    services: Vec<Running>,
    pub(crate) servers: Servers,
}

struct Running {
    service: &'static Service,
    http: u16,
    process: Process,
}

impl System {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(place: Place, console: &Console) -> Result<Self, Error> {
        let programs = programs()?;
        let tools = Tools::find().map_err(sandbox::Error::from)?;
        let (options, fixed) = match place {
            Place::Passing => (ServersOptions::default(), false),
            Place::Lasting { folder, postgres_port } => {
                let options = ServersOptions {
                    logs: Some(folder.join("log")),
                    data: sandbox::Data::Kept(folder),
                    postgres_port: Some(postgres_port),
                    kafka_port: Some(KAFKA_PORT),
                    life: Life::MayOutlive,
                };
                (options, true)
            }
        };
        let (logs, life) = (options.logs.clone(), options.life);
        let servers = Servers::start(options, &tools, console).await?;
        let start = Start {
            brokers: servers.kafka.brokers(),
            logs: logs.unwrap_or_else(|| servers.kafka.folder().join("services")),
            life,
            console,
        };
        let mut each = Vec::new();
        for (service, program) in SERVICES.iter().zip(&programs) {
            let database = servers.postgres.create_database(service.name).await?;
            each.push(start.service(service, program, database, fixed));
        }
        let services = try_join_all(each).await?;
        Ok(Self { services, servers })
    }

    /// What a Kafka client of this system is made with.
    pub(crate) fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// The port of a service's API.
    pub(crate) fn port(&self, name: &str) -> u16 {
        let running = self.services.iter().find(|running| running.service.name == name);
        running.map_or(0, |running| running.http)
    }

    /// The last lines that each service logged.
    pub(crate) fn log_tails(&self) -> Vec<(String, String)> {
        let tail = |it: &Running| (it.service.name.to_owned(), it.process.log_tail());
        self.services.iter().map(tail).collect()
    }

    /// Stops the services, then the servers.
    pub(crate) async fn stop(mut self) {
        join_all(self.services.iter_mut().map(|running| running.process.stop(GRACE))).await;
        self.servers.stop().await;
    }

    /// Leaves all of it running. If a part of it has just ended, the rest is ended too.
    pub(crate) async fn detach(self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let detached = async {
            for running in self.services {
                let mut record = running.process.detach()?;
                record.port = Some(running.http);
                records.push(record);
            }
            records.extend(self.servers.detach().await?);
            Ok(())
        };
        if let Err(error) = detached.await {
            join_all(records.iter().map(|record| record.stop(GRACE))).await;
            return Err(error);
        }
        Ok(records)
    }
}

/// Kafka's port in `.local`.
pub(crate) const KAFKA_PORT: u16 = 9092;

/// What every service is started with.
struct Start<'a> {
    brokers: String,
    logs: PathBuf,
    life: Life,
    console: &'a Console,
}

impl Start<'_> {
    async fn service(
        &self,
        service: &'static Service,
        program: &Path,
        database: String,
        fixed: bool,
    ) -> Result<Running, Error> {
        let start = async {
            let mut tries_left = if fixed { 1 } else { 3 };
            loop {
                let (http, admin) =
                    if fixed { (service.http, service.admin) } else { free_ports()? };
                tries_left -= 1;
                match self.process(service, program, &database, http, admin).await {
                    // Somebody else took the free port first.
                    Err(sandbox::Error::Ended { tail, .. })
                        if tries_left > 0 && tail.contains("in use") => {}
                    started => return Ok(Running { service, http, process: started? }),
                }
            }
        };
        let said = |it: &Running| format!("{} on http://127.0.0.1:{}", service.name, it.http);
        let Some(topic) = service.hears else {
            return step(self.console, service.name, start, said).await;
        };
        let group = Group::new(&Settings::new(&self.brokers, ""), service.name)?;
        let earlier = group.members();
        let running = step(self.console, service.name, start, said).await?;
        let reads = format!("{} reads {topic}", service.name);
        let joined = step(self.console, &reads, group.reads(topic, &earlier), |()| reads.clone());
        joined.await.map_err(|error| Error::Deaf {
            name: service.name,
            tail: running.process.log_tail(),
            source: Box::new(error),
        })?;
        Ok(running)
    }

    async fn process(
        &self,
        service: &Service,
        program: &Path,
        database: &str,
        http: u16,
        admin: u16,
    ) -> Result<Process, sandbox::Error> {
        let mut command = Command::new(program);
        // Whatever the caller's environment has for a system of its own.
        for other in ["KAFKA_TOPIC_PREFIX", "KAFKA_PROPERTIES", "SMTP_URL"] {
            command.env_remove(other);
        }
        let tenants = [ACME, GLOBEX].map(|tenant| format!("{}={}", tenant.key, tenant.name));
        command
            .env("DATABASE_URL", database)
            .env("KAFKA_BROKERS", &self.brokers)
            .env("HTTP_ADDR", format!("127.0.0.1:{http}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"))
            .env("TENANTS", tenants.join(","))
            .env("EVENT_SENDERS", EVENT_SENDERS)
            .env("OPERATOR_TOKEN", OPERATOR_TOKEN)
            .env("FAULTS", "on")
            // Only notification asks for it: e-mails as files, beside the logs.
            .env("MAIL_DIR", self.logs.with_file_name("mail"))
            .env("RUST_LOG", env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
        let log = self.logs.join(format!("{}.log", service.name));
        let mut process = Process::spawn(service.name, command, &log, self.life)?;
        process.until_ready(async || http::readiness(admin).await.answers()).await?;
        Ok(process)
    }
}

/// Two different ones.
fn free_ports() -> Result<(u16, u16), Error> {
    let free = || {
        let listen = || TcpListener::bind(("127.0.0.1", 0));
        let (one, other) = (listen()?, listen()?);
        Ok((one.local_addr()?.port(), other.local_addr()?.port()))
    };
    free().map_err(Error::io("find free ports"))
}

/// The services' programs, which lie beside this one, in the order of [`SERVICES`].
pub(crate) fn programs() -> Result<Vec<PathBuf>, Error> {
    let own = env::current_exe().map_err(Error::io("find the folder of this program"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let program = |service: &Service| {
        let program = folder.join(service.name);
        if program.is_file() {
            Ok(program)
        } else {
            Err(Error::NoProgram { name: service.name, folder: folder.into() })
        }
    };
    SERVICES.iter().map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makefile_builds_every_service() {
        let names = SERVICES.each_ref().map(|service| service.name).join(" ");
        let line = format!("SERVICES := {names}");
        let makefile = include_str!("../../../Makefile");
        assert!(makefile.lines().any(|it| it == line), "the Makefile should say {line}");
    }
}
