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

/// The stand-in for the outside world: its program, and its port in `.local`.
pub(crate) const THIRD_PARTY: &str = "third-party";
pub(crate) const THIRD_PARTY_PORT: u16 = 8090;

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
/// What the order service shows to the others.
const SERVICE_KEY: &str = "demo-order";
pub(crate) const OPERATOR_TOKEN: &str = "demo-operator";

/// Variables of services that the caller's environment may have for a system of its own.
const OF_OTHERS: [&str; 6] = [
    "KAFKA_TOPIC_PREFIX",
    "KAFKA_PROPERTIES",
    "SMTP_URL",
    "ORDER_DIRECT",
    "SUBSCRIBE",
    "WEBHOOK_ALLOW",
];

/// A variable that one service is given, or all: its name, the variable's, the value.
pub(crate) type Setting = (Option<&'static str>, &'static str, String);

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
    pub(crate) third_party: Standing,
    pub(crate) servers: Servers,
}

struct Running {
    service: &'static Service,
    http: u16,
    plan: Plan,
    process: Process,
}

/// The outside world, running.
pub(crate) struct Standing {
    pub(crate) port: u16,
    process: Process,
}

impl System {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(place: Place, console: &Console) -> Result<Self, Error> {
        Self::start_with(place, &[], console).await
    }

    /// The same, with settings that are not as they usually are.
    pub(crate) async fn start_with(
        place: Place,
        settings: &[Setting],
        console: &Console,
    ) -> Result<Self, Error> {
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
        let third_party = start.third_party(fixed).await?;
        let mut databases = Vec::new();
        for service in &SERVICES {
            databases.push(servers.postgres.create_database(service.name).await?);
        }
        let each = SERVICES.iter().zip(&programs).zip(databases);
        // Whoever publishes last: it is told where the others are.
        let (publishers, consumers): (Vec<_>, Vec<_>) =
            each.partition(|((service, _), _)| service.hears.is_none());
        let of = |name: &str| {
            let its = settings.iter().filter(|it| it.0.is_none_or(|only| only == name));
            its.map(|(_, variable, value)| (*variable, value.clone())).collect::<Vec<_>>()
        };
        let allowed = [("WEBHOOK_ALLOW", format!("127.0.0.1:{}", third_party.port))];
        let consumers = consumers.into_iter().map(|((service, program), database)| {
            let more = [&allowed[..], &of(service.name)].concat();
            start.service(service, program, database, fixed, more)
        });
        let mut services = try_join_all(consumers).await?;
        let told = downstream(&services, third_party.port);
        for ((service, program), database) in publishers {
            let more = [&told[..], &of(service.name)].concat();
            services.push(start.service(service, program, database, fixed, more).await?);
        }
        services.sort_by_key(|running| position(running.service.name));
        Ok(Self { services, third_party, servers })
    }

    /// What a Kafka client of this system is made with.
    pub(crate) fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// The admin port of a service.
    pub(crate) fn admin(&self, name: &str) -> u16 {
        let running = self.services.iter().find(|running| running.service.name == name);
        running.map_or(0, |running| running.plan.admin)
    }

    /// Kills a service as `kill -9` does.
    pub(crate) async fn kill(&mut self, name: &str) {
        if let Some(running) = self.services.iter_mut().find(|it| it.service.name == name) {
            running.process.kill_9().await;
        }
    }

    /// Starts a service that has ended again, where it was.
    pub(crate) async fn start_again(&mut self, name: &str) -> Result<(), Error> {
        if let Some(running) = self.services.iter_mut().find(|it| it.service.name == name) {
            running.process = running.plan.launch().await?;
        }
        Ok(())
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
        self.third_party.process.stop(GRACE).await;
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
            let mut record = self.third_party.process.detach()?;
            record.port = Some(self.third_party.port);
            records.push(record);
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

/// Where the order service finds the others.
fn downstream(services: &[Running], third_party: u16) -> Vec<(&'static str, String)> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let port = |name: &str| {
        services.iter().find(|running| running.service.name == name).map_or(0, |it| it.http)
    };
    vec![
        ("BILLING_URL", url(port("billing"))),
        ("NOTIFICATION_URL", url(port("notification"))),
        ("ANALYTICS_URL", url(port("analytics"))),
        ("INVENTORY_URL", url(third_party)),
        ("SERVICE_KEY", SERVICE_KEY.into()),
    ]
}

fn position(name: &str) -> usize {
    SERVICES.iter().position(|service| service.name == name).unwrap_or_default()
}

impl Start<'_> {
    async fn third_party(&self, fixed: bool) -> Result<Standing, Error> {
        let port = if fixed { THIRD_PARTY_PORT } else { free_ports()?.0 };
        let start = async {
            let mut command = Command::new(program(THIRD_PARTY)?);
            command.env("HTTP_ADDR", format!("127.0.0.1:{port}"));
            let log = self.logs.join(format!("{THIRD_PARTY}.log"));
            let mut process = Process::spawn(THIRD_PARTY, command, &log, self.life)?;
            process.until_ready(async || http::is_alive(port).await).await?;
            Ok(Standing { port, process })
        };
        let said = |it: &Standing| format!("{THIRD_PARTY} on http://127.0.0.1:{}", it.port);
        step(self.console, THIRD_PARTY, start, said).await
    }

    async fn service(
        &self,
        service: &'static Service,
        program: &Path,
        database: String,
        fixed: bool,
        more: Vec<(&'static str, String)>,
    ) -> Result<Running, Error> {
        let start = async {
            let mut tries_left = if fixed { 1 } else { 3 };
            loop {
                let (http, admin) =
                    if fixed { (service.http, service.admin) } else { free_ports()? };
                tries_left -= 1;
                let plan = self.plan(service, program, &database, (http, admin), &more);
                match plan.launch().await {
                    // Somebody else took the free port first.
                    Err(sandbox::Error::Ended { tail, .. })
                        if tries_left > 0 && tail.contains("in use") => {}
                    started => return Ok(Running { service, http, plan, process: started? }),
                }
            }
        };
        let said = |it: &Running| format!("{} on http://127.0.0.1:{}", service.name, it.http);
        let subscribes = !more.iter().any(|it| *it == ("SUBSCRIBE", "off".to_owned()));
        let Some(topic) = service.hears.filter(|_| subscribes) else {
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

    /// What a service is started with, each time anew.
    fn plan(
        &self,
        service: &Service,
        program: &Path,
        database: &str,
        (http, admin): (u16, u16),
        more: &[(&str, String)],
    ) -> Plan {
        let tenants = [ACME, GLOBEX].map(|tenant| format!("{}={}", tenant.key, tenant.name));
        // Only notification asks for it: e-mails as files, beside the logs.
        let mail = self.logs.with_file_name("mail");
        let mut variables: Vec<(String, String)> = [
            ("DATABASE_URL", database),
            ("KAFKA_BROKERS", &self.brokers),
            ("HTTP_ADDR", &format!("127.0.0.1:{http}")),
            ("ADMIN_ADDR", &format!("127.0.0.1:{admin}")),
            ("TENANTS", &tenants.join(",")),
            ("EVENT_SENDERS", EVENT_SENDERS),
            ("OPERATOR_TOKEN", OPERATOR_TOKEN),
            ("FAULTS", "on"),
            ("MAIL_DIR", &mail.display().to_string()),
            ("RUST_LOG", &env::var("RUST_LOG").unwrap_or_else(|_| "info".into())),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Plan {
            name: service.name,
            program: program.to_owned(),
            variables,
            admin,
            log: self.logs.join(format!("{}.log", service.name)),
            life: self.life,
        }
    }
}

/// What a service is started with.
struct Plan {
    name: &'static str,
    program: PathBuf,
    variables: Vec<(String, String)>,
    admin: u16,
    log: PathBuf,
    life: Life,
}

impl Plan {
    /// Starts it, and waits until it is ready.
    async fn launch(&self) -> Result<Process, sandbox::Error> {
        let mut command = Command::new(&self.program);
        // Whatever the caller's environment has for a system of its own.
        for other in OF_OTHERS {
            command.env_remove(other);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn(self.name, command, &self.log, self.life)?;
        process.until_ready(async || http::readiness(self.admin).await.answers()).await?;
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

/// The services' programs, in the order of [`SERVICES`].
pub(crate) fn programs() -> Result<Vec<PathBuf>, Error> {
    SERVICES.iter().map(|service| program(service.name)).collect()
}

/// A program that lies beside this one.
fn program(name: &'static str) -> Result<PathBuf, Error> {
    let own = env::current_exe().map_err(Error::io("find the folder of this program"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let program = folder.join(name);
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::NoProgram { name, folder: folder.into() })
    }
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
