//! The four services and the third party, connected to each other, on one [`System`].

use std::{
    env,
    path::{Path, PathBuf},
};

use futures::future::{join_all, try_join_all};
use kafka::Settings;
use sandbox::{Console, Life, ProcessRecord, ServersOptions, Tools, step};

use crate::{
    Error, Instance, Launch, Ports, System, SystemOptions, launcher,
    ops::{OPS, OpsProcess},
    programs_folder,
    records::Group,
    third_party::{THIRD_PARTY, ThirdPartyProcess},
};

/// A service: the name of its program and of its database, and its ports in the local system.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) ports: Ports,
    /// Topic whose assignment shows that the service's consumer group works.
    consumes: Option<&'static str>,
}

impl Service {
    const fn new(name: &'static str, number: u16, consumes: Option<&'static str>) -> Self {
        Self { name, ports: Ports { http: 8080 + number, admin: 9180 + number }, consumes }
    }
}

/// All services. A new service needs a line here, and its package in the Makefile's `SERVICES`.
pub(crate) const SERVICES: [Service; 4] = [
    Service::new("order", 1, None),
    Service::new("billing", 2, Some("order.completed")),
    Service::new("notification", 3, Some("order.completed")),
    Service::new("analytics", 4, Some("order.completed")),
];

/// Ports of the local system.
pub(crate) const THIRD_PARTY_PORT: u16 = 8090;
pub(crate) const KAFKA_PORT: u16 = 9092;
pub(crate) const OPS_PORT: u16 = 8080;

/// A tenant, and its API key.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
}

pub(crate) const ACME: Tenant = Tenant { name: "acme", key: "demo-acme" };
pub(crate) const GLOBEX: Tenant = Tenant { name: "globex", key: "demo-globex" };
/// The credential with which the order service calls the others.
const SERVICE_KEY: &str = "demo-order";
/// Value of `EVENT_SENDERS`: the events that the order service may send with the credential to
/// their `POST /events`, and its calls.
pub const EVENT_SENDERS: &str = "demo-order=/order:order.created+order.updated+order.completed+order.cancelled+acknowledge+track";
pub(crate) const OPERATOR_TOKEN: &str = "demo-operator";

/// A setting of one service, or of all: the service's name, the variable's name, its value.
pub(crate) type Setting = (Option<&'static str>, &'static str, String);

/// Where the deployment runs.
pub(crate) enum Location {
    /// On free ports and in temporary folders. It ends with this process.
    Temporary,
    /// On fixed ports, except Postgres, whose port is given. Data is in this folder, logs in its
    /// `log`.
    Local { folder: PathBuf, postgres_port: u16 },
}

impl Location {
    fn servers(self) -> ServersOptions {
        match self {
            Self::Temporary => ServersOptions::default(),
            Self::Local { folder, postgres_port } => ServersOptions {
                logs: Some(folder.join("log")),
                data: sandbox::Data::Kept(folder),
                postgres_port: Some(postgres_port),
                kafka_port: Some(KAFKA_PORT),
                life: Life::MayOutlive,
                ..ServersOptions::default()
            },
        }
    }
}

/// The whole running system. Dropping it ends all processes.
#[derive(Debug)]
pub(crate) struct Deployment {
    // Fields are dropped in this order.
    /// Only in the local system. Other deployments are observed by the program that started them.
    ops: Option<OpsProcess>,
    services: Vec<Instance>,
    pub(crate) third_party: ThirdPartyProcess,
    system: System,
}

impl Deployment {
    /// Starts everything, with these settings in addition to the usual ones, and waits until it is
    /// ready.
    pub(crate) async fn start(
        location: Location,
        settings: &[Setting],
        console: &Console,
    ) -> Result<Self, Error> {
        let folder = programs_folder()?;
        programs(&folder)?;
        let tools = Tools::find().map_err(sandbox::Error::from)?;
        let fixed_ports = matches!(location, Location::Local { .. });
        let options = SystemOptions {
            servers: location.servers(),
            databases: SERVICES.iter().map(|service| service.name.to_owned()).collect(),
            settings: usual_settings(),
            ..SystemOptions::new(folder)
        };
        let system = System::start(options, &tools, console).await?;
        let start = Start { system: &system, fixed_ports, settings, console };
        let third_party = start.third_party().await?;
        let services = start.services(third_party.port).await?;
        let ops = if fixed_ports { Some(start.ops(&services).await?) } else { None };
        Ok(Self { ops, services, third_party, system })
    }

    /// Returns the settings of a Kafka client.
    pub(crate) fn kafka(&self) -> Settings {
        self.system.kafka()
    }

    /// Returns the instance of a service.
    pub(crate) fn service(&self, name: &str) -> &Instance {
        &self.services[position(name)]
    }

    pub(crate) fn service_mut(&mut self, name: &str) -> &mut Instance {
        &mut self.services[position(name)]
    }

    /// Returns the name of each service with the last lines of its log.
    pub(crate) fn log_tails(&self) -> Vec<(String, String)> {
        let tail = |it: &Instance| (it.process.name().to_owned(), it.process.log_tail());
        self.services.iter().map(tail).collect()
    }

    /// Stops the services, then the servers.
    pub(crate) async fn stop(mut self) {
        if let Some(ops) = &mut self.ops {
            ops.stop().await;
        }
        join_all(self.services.iter_mut().map(Instance::terminate)).await;
        self.third_party.stop().await;
        self.system.stop().await;
    }

    /// Leaves the system running. If a part of it has just ended, ends the rest too.
    pub(crate) async fn detach(self) -> Result<Vec<ProcessRecord>, Error> {
        let mut records = Vec::new();
        let detached = async {
            if let Some(ops) = self.ops {
                records.push(ops.detach()?);
            }
            for instance in self.services {
                records.push(instance.detach()?);
            }
            records.push(self.third_party.detach()?);
            records.extend(self.system.servers.detach().await?);
            Ok(())
        };
        if let Err(error) = detached.await {
            join_all(records.iter().map(|record| record.stop(crate::instance::GRACE))).await;
            return Err(error);
        }
        Ok(records)
    }
}

/// Returns the settings of every service. The settings of OpenTelemetry are the caller's, who
/// decides where traces are sent.
fn usual_settings() -> Vec<(String, String)> {
    let tenants = [ACME, GLOBEX].map(|tenant| format!("{}={}", tenant.key, tenant.name));
    let log = env::var("RUST_LOG").unwrap_or_else(|_| "info".into());
    let usual = [
        ("TENANTS", tenants.join(",")),
        ("EVENT_SENDERS", EVENT_SENDERS.into()),
        ("OPERATOR_TOKEN", OPERATOR_TOKEN.into()),
        ("FAULTS", "on".into()),
        ("RUST_LOG", log),
    ];
    let usual = usual.map(|(name, value)| (name.to_owned(), value)).into_iter();
    usual.chain(env::vars().filter(|(name, _)| name.starts_with("OTEL_"))).collect()
}

/// Returns the index in [`SERVICES`]. Any other name is a bug in this crate.
fn position(name: &str) -> usize {
    let found = SERVICES.iter().position(|service| service.name == name);
    found.unwrap_or_else(|| unreachable!("{name} is not among SERVICES"))
}

/// Inputs for starting the parts.
struct Start<'a> {
    system: &'a System,
    fixed_ports: bool,
    settings: &'a [Setting],
    console: &'a Console,
}

impl Start<'_> {
    async fn third_party(&self) -> Result<ThirdPartyProcess, Error> {
        let port = self.fixed_ports.then_some(THIRD_PARTY_PORT);
        let start = ThirdPartyProcess::start(&self.system.launcher, port);
        let outcome =
            |it: &ThirdPartyProcess| format!("{THIRD_PARTY} on http://127.0.0.1:{}", it.port);
        step(self.console, THIRD_PARTY, start, outcome).await
    }

    async fn ops(&self, services: &[Instance]) -> Result<OpsProcess, Error> {
        let start = OpsProcess::start(&self.system.launcher, services, OPERATOR_TOKEN, OPS_PORT);
        let outcome = |it: &OpsProcess| format!("{OPS} serve on http://127.0.0.1:{}", it.port);
        step(self.console, OPS, start, outcome).await
    }

    /// Starts all services, in the order of [`SERVICES`]. The order service starts last, because it
    /// needs the addresses of the others.
    async fn services(&self, third_party: u16) -> Result<Vec<Instance>, Error> {
        let [order, others @ ..] = &SERVICES;
        let groups = others.iter().filter_map(|service| self.consuming(service));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let allowed = [("WEBHOOK_ALLOW", format!("127.0.0.1:{third_party}"))];
        let others = others.iter().map(|service| self.service(service, &allowed));
        let mut services = try_join_all(others).await?;
        let downstream = downstream(&services, third_party);
        services.insert(0, self.service(order, &downstream).await?);
        // After the order service, because it creates the topics that the others consume.
        let consuming = groups.iter().map(|group| self.until_it_consumes(group, &services));
        try_join_all(consuming).await?;
        Ok(services)
    }

    fn setting(&self, service: &Service) -> Vec<(&'static str, String)> {
        let own = self.settings.iter().filter(|it| it.0.is_none_or(|only| only == service.name));
        own.map(|(_, name, value)| (*name, value.clone())).collect()
    }

    /// Returns the state of a service's consumer group before the service starts, if it consumes.
    fn consuming(&self, service: &'static Service) -> Option<Result<Consuming, Error>> {
        let topic = service.consumes?;
        let subscribes = !self.setting(service).contains(&("SUBSCRIBE", "off".to_owned()));
        subscribes.then(|| {
            let group = Group::new(&self.system.kafka(), service.name)?;
            Ok(Consuming { name: service.name, topic, earlier: group.members(), group })
        })
    }

    async fn service(
        &self,
        service: &'static Service,
        connected: &[(&str, String)],
    ) -> Result<Instance, Error> {
        let mut launch = Launch::new(service.name);
        for (name, value) in connected.iter().cloned().chain(self.setting(service)) {
            launch = launch.setting(name, value);
        }
        if self.fixed_ports {
            launch = launch.ports(service.ports);
        }
        let start = self.system.launcher.start(launch);
        let outcome = |it: &Instance| format!("{} on http://127.0.0.1:{}", service.name, it.http);
        step(self.console, service.name, start, outcome).await
    }

    async fn until_it_consumes(
        &self,
        Consuming { name, topic, group, earlier }: &Consuming,
        services: &[Instance],
    ) -> Result<(), Error> {
        let reads = format!("{name} reads {topic}");
        let joined = step(self.console, &reads, group.reads(topic, earlier), |()| reads.clone());
        joined.await.map_err(|error| Error::ConsumesNothing {
            name: (*name).to_owned(),
            tail: services[position(name)].process.log_tail(),
            source: Box::new(error),
        })
    }
}

/// The consumer group of a service that is about to start.
struct Consuming {
    name: &'static str,
    /// Topic whose assignment shows that the group works.
    topic: &'static str,
    group: Group,
    /// Members before the service's start.
    earlier: Vec<String>,
}

/// Returns the settings with the other services' addresses for the order service.
fn downstream(services: &[Instance], third_party: u16) -> Vec<(&'static str, String)> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let variable = |name| match name {
        "billing" => Some("BILLING_URL"),
        "notification" => Some("NOTIFICATION_URL"),
        "analytics" => Some("ANALYTICS_URL"),
        _ => None,
    };
    let urls = services.iter().filter_map(|it| Some((variable(it.process.name())?, url(it.http))));
    let others = [("INVENTORY_URL", url(third_party)), ("SERVICE_KEY", SERVICE_KEY.into())];
    urls.chain(others).collect()
}

/// Returns the programs of the services in this folder, in the order of [`SERVICES`].
pub(crate) fn programs(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = SERVICES.iter().map(|service| service.name);
    names.map(|name| launcher::program(folder, name)).collect()
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

    #[test]
    fn the_operators_tool_knows_every_admin_port() {
        let known = include_str!("../../ops/src/services.rs");
        for Service { name, ports, .. } in &SERVICES {
            let line = format!("Service {{ name: \"{name}\", admin: {} }},", ports.admin);
            assert!(known.contains(&line), "crates/ops/src/services.rs should say {line}");
        }
    }
}
