use std::{
    fs, io, iter,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use futures::future::{join_all, try_join_all};

use crate::{
    Broker, Data, Error, Life, Process, ProcessRecord, Progress, ServerOptions, Tools,
    broker::BrokerConfig,
    error::OperationContext,
    folder::{Folder, TempFolder, make_whole},
    jars::{self, KAFKA_VERSION, kafka_jars},
    port, step,
};

/// A running Kafka: one node, or a cluster of three, each of which is both broker and controller.
/// [`stop`](Self::stop) or drop stops it and removes its temporary folder.
///
/// On a cluster every topic has three replicas, and a record is acknowledged (`acks=all`) when two
/// of them have it, unless the topic's creator asks for something else.
#[derive(Debug)]
pub struct Kafka {
    // The fields are dropped in this order: first the processes, then their folder.
    brokers: Vec<Broker>,
    folder: Folder,
}

impl Kafka {
    /// Starts Kafka and waits until it answers. Fetches it first if it is not in the cache, and
    /// formats its folder if that is new.
    ///
    /// # Errors
    /// [`Error::PortTaken`], [`Error::Fetch`], [`Error::Ended`] and [`Error::NotReady`] with the
    /// last lines of its log, [`Error::Io`].
    pub async fn start(
        options: ServerOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        Self::start_nodes(None, options, tools, progress).await
    }

    /// Starts three nodes of one cluster, and waits until all of them serve. The port of the
    /// options is that of the first node; each node has a separate log file.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_cluster(
        options: ServerOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let (mut brokers, controllers) = lasting_ports()
            .and_then(|brokers| Ok((brokers, lasting_ports()?)))
            .doing(|| "find free ports".into())?;
        brokers[0] = options.port.unwrap_or(brokers[0]);
        Self::start_nodes(Some((brokers, controllers)), options, tools, progress).await
    }

    /// Starts one node, or a cluster with these ports of brokers and controllers.
    async fn start_nodes(
        cluster: Option<([u16; 3], [u16; 3])>,
        options: ServerOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let jars = kafka_jars(tools, progress).await?;
        let name = format!("Kafka {KAFKA_VERSION}");
        let address = |it: &Self| format!("{name} on {}", it.brokers());
        step(progress, &name, Self::start_quietly(cluster, options, tools, jars), address).await
    }

    async fn start_quietly(
        cluster: Option<([u16; 3], [u16; 3])>,
        options: ServerOptions,
        tools: &Tools,
        jars: PathBuf,
    ) -> Result<Self, Error> {
        let folder = match options.data {
            Data::Temporary => {
                TempFolder::new(&std::env::temp_dir(), "orderflow-kafka-").map(Folder::Temporary)
            }
            Data::Kept(path) => std::path::absolute(path).map(Folder::Kept),
        };
        let folder = folder.doing(|| "make a folder for Kafka".into())?;
        let path = folder.path().to_owned();
        let archive = jars::archive(tools);
        let alone = BrokerConfig {
            id: 1,
            records: folder.is_temporary() && !archive.exists(),
            archive,
            java: tools.java.clone(),
            jars,
            log: options.log.unwrap_or_else(|| path.join("kafka.log")),
            life: options.life,
            settings: options.settings,
            controllers: None,
            folder: path,
        };
        let (plans, ports) = match cluster {
            None => (vec![alone], vec![options.port]),
            Some((brokers, controllers)) => (
                (1..=3).map(|id| alone.of_cluster(id, controllers)).collect(),
                brokers.map(Some).into(),
            ),
        };
        let data = data_of(&folder);
        make_whole(&data, async |new| format(&plans, &new).await).await?;
        // Started concurrently, since a node of a cluster serves only when another one runs.
        let started = plans.into_iter().zip(ports).map(async |(plan, port)| {
            let data = plan.data(&data);
            Broker::start(plan, port, &data).await
        });
        let brokers = try_join_all(started).await?;
        Ok(Self { brokers, folder })
    }

    /// Returns its address, for `KAFKA_BROKERS`: those of all brokers of a cluster, separated by
    /// commas.
    pub fn brokers(&self) -> String {
        self.brokers.iter().map(Broker::address).collect::<Vec<_>>().join(",")
    }

    /// Returns the port of its first broker.
    pub fn port(&self) -> u16 {
        self.first().port()
    }

    /// Returns the folder of its data, settings and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the log files, one for each broker.
    pub fn logs(&self) -> impl Iterator<Item = &Path> {
        self.brokers.iter().map(Broker::log)
    }

    /// Returns the process of its first broker, for its id, log, pause and resume.
    pub fn process(&mut self) -> &mut Process {
        self.brokers[0].process()
    }

    /// Returns the broker with this number, from 1, or `None` if there is none.
    pub fn broker(&mut self, id: u16) -> Option<&mut Broker> {
        self.brokers.iter_mut().find(|broker| broker.id() == id)
    }

    /// Runs one of Kafka's command-line tools against it, by the name of its class
    /// (`org.apache.kafka.tools.AclCommand`). Waits until it has succeeded and returns its output.
    ///
    /// # Errors
    /// [`Error::Ended`] with its last lines if it failed, [`Error::Io`].
    pub async fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<String, Error> {
        let mut command = self.first().plan().java()?;
        command.arg(class).args(["--bootstrap-server", &self.brokers()]).args(arguments);
        let log = self.folder().join("tool.log");
        let length = fs::metadata(&log).map_or(0, |log| log.len());
        Process::spawn(class, command, &log, Life::WithParent)?.succeed().await?;
        let text = fs::read(&log).doing(|| format!("read {}", log.display()))?;
        let from = usize::try_from(length).unwrap_or_default();
        Ok(String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned())
    }

    /// Returns the number of the node that is the active controller.
    ///
    /// # Errors
    /// As [`run_tool`](Self::run_tool), and [`Error::Io`] if there is none at the moment.
    pub async fn controller(&self) -> Result<u16, Error> {
        let class = "org.apache.kafka.tools.MetadataQuorumCommand";
        let status = self.run_tool(class, &["describe", "--status"]).await?;
        let leader = status.lines().find_map(|line| line.strip_prefix("LeaderId:"));
        leader
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| io::Error::other(status.clone()))
            .doing(|| "find the active controller".into())
    }

    /// Shuts it down, and keeps its folder and port for [`start_again`](Self::start_again). Returns
    /// the exit status of the first broker.
    pub async fn halt(&mut self) -> ExitStatus {
        let ended = join_all(self.brokers.iter_mut().map(Broker::halt)).await;
        // The list is never empty.
        ended.first().copied().unwrap_or_default()
    }

    /// Starts all brokers that were halted or killed, on the same ports and data, and waits until
    /// they serve.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<(), Error> {
        let data = data_of(&self.folder);
        let ended = self.brokers.iter_mut().filter_map(|broker| {
            broker.process().try_exit()?;
            Some(async {
                let data = broker.plan().data(&data);
                broker.start_again(&data).await
            })
        });
        try_join_all(ended).await?;
        Ok(())
    }

    /// Stops it, and removes its folder if that is temporary.
    pub async fn stop(mut self) {
        let (records, archive) = (self.first().plan().records, &self.first().plan().archive);
        if self.folder.is_temporary() && (!records || archive.exists()) {
            // Nothing is kept, so there is no need for an orderly shutdown.
            join_all(self.brokers.iter_mut().map(async |it| it.process().kill_9().await)).await;
            return;
        }
        let wrote_all = self.halt().await.code().is_some();
        if records && wrote_all {
            let plan = self.first().plan();
            let keep = async |new| fs::copy(plan.recorded(), new).map(drop).doing(String::new);
            // Without the archive the next start is only slower.
            let _ = make_whole(&plan.archive, keep).await;
        }
    }

    /// Leaves it running. Returns the record by which it can be found and stopped later.
    ///
    /// # Errors
    /// [`Error::NotDetachable`] if its data is temporary, if it ends with its parent, or if it is a
    /// cluster. It is stopped then.
    pub fn detach(mut self) -> Result<ProcessRecord, Error> {
        match (self.brokers.pop(), self.brokers.is_empty()) {
            (Some(broker), true) => {
                let port = broker.port();
                broker.into_process().detach_server(port, &self.folder)
            }
            _ => Err(Error::NotDetachable("a cluster of Kafka".into())),
        }
    }

    fn first(&self) -> &Broker {
        &self.brokers[0]
    }
}

impl BrokerConfig {
    /// Returns the plan of one of three nodes, with its own folder within that of a single node.
    fn of_cluster(&self, id: u16, controllers: [u16; 3]) -> Self {
        Self {
            id,
            folder: self.folder.join(id.to_string()),
            log: self.log.with_extension(format!("{id}.log")),
            controllers: Some(controllers),
            ..self.clone()
        }
    }

    /// Returns the node's part of the data of all nodes.
    fn data(&self, all: &Path) -> PathBuf {
        if self.controllers.is_some() { all.join(self.id.to_string()) } else { all.to_owned() }
    }
}

/// Returns a port for each node of a cluster.
fn lasting_ports() -> io::Result<[u16; 3]> {
    Ok([port::lasting()?, port::lasting()?, port::lasting()?])
}

fn data_of(folder: &Folder) -> PathBuf {
    folder.path().join("data")
}

async fn format(plans: &[BrokerConfig], data: &Path) -> Result<(), Error> {
    let cluster_id = cluster_id();
    let formatted = plans.iter().map(async |plan| plan.format(&plan.data(data), &cluster_id).await);
    try_join_all(formatted).await?;
    Ok(())
}

/// Returns 16 bytes in Kafka's base64. The last character carries only two bits, and the first must
/// not be a dash, which would be read as an option.
fn cluster_id() -> String {
    let mut id: String = iter::repeat_with(fastrand::alphanumeric).take(21).collect();
    id.extend(fastrand::choice(['A', 'Q', 'g', 'w']));
    id
}
