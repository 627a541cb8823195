use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tokio::net::TcpStream;

use crate::{Error, Life, Process, error::OperationContext, port};

/// Maximum time for a broker to end by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// One node of Kafka, which is both broker and controller. Its process may have ended and can be
/// started again.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    port: u16,
    plan: BrokerConfig,
}

/// Settings that all starts of a node share.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    /// Number of the node, from 1.
    pub(crate) id: u16,
    pub(crate) java: PathBuf,
    pub(crate) jars: PathBuf,
    /// Class-data archive of Kafka, built for this build of Java, which halves the start time. The
    /// first temporary Kafka that is stopped leaves it in the cache.
    pub(crate) archive: PathBuf,
    /// Whether the first node records the classes that it loads, for the archive.
    pub(crate) records: bool,
    /// Folder of settings, log and temporary files.
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) life: Life,
    pub(crate) settings: Vec<(String, String)>,
    /// Ports of all controllers, in the order of their ids, since each node has to know the others.
    /// `None` for a single node, which takes another port at each start.
    pub(crate) controllers: Option<[u16; 3]>,
}

impl Broker {
    pub(crate) async fn start(
        plan: BrokerConfig,
        wanted: Option<u16>,
        data: &Path,
    ) -> Result<Self, Error> {
        let (port, process) =
            port::start_on(wanted, async |port| plan.launch(port, data).await).await?;
        Ok(Self { process, port, plan })
    }

    /// Returns the number of the node, from 1, by which clients know it, too.
    pub fn id(&self) -> u16 {
        self.plan.id
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its address, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns its log file.
    pub fn log(&self) -> &Path {
        &self.plan.log
    }

    /// Returns the process, for its id, log, pause, resume and `kill_9`.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Shuts the broker down: it hands its partitions over to the other brokers before it ends.
    pub async fn halt(&mut self) -> ExitStatus {
        self.process.stop(GRACE).await
    }

    pub(crate) fn plan(&self) -> &BrokerConfig {
        &self.plan
    }

    pub(crate) fn into_process(self) -> Process {
        self.process
    }

    pub(crate) async fn start_again(&mut self, data: &Path) -> Result<(), Error> {
        let started =
            port::start_on(Some(self.port), async |port| self.plan.launch(port, data).await);
        self.process = started.await?.1;
        Ok(())
    }
}

impl BrokerConfig {
    pub(crate) fn recorded(&self) -> PathBuf {
        self.folder.join("classes.jsa")
    }

    pub(crate) async fn format(&self, data: &Path, cluster_id: &str) -> Result<(), Error> {
        // The ports are not used, but the tool requires some.
        let controllers = self.controllers.map_or(vec![9093], Into::into);
        let settings = self.write_settings("format.properties", data, 9092, &controllers)?;
        let mut command = self.java()?;
        command.args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"]).arg(settings);
        Process::spawn("Kafka's format tool", command, &self.log, Life::WithParent)?.succeed().await
    }

    async fn launch(&self, port: u16, data: &Path) -> Result<Process, Error> {
        let controllers = match self.controllers {
            Some(controllers) => controllers.into(),
            None => vec![port::free().doing(|| "find a free port".into())?],
        };
        let settings = self.write_settings("server.properties", data, port, &controllers)?;
        let mut command = self.java()?;
        if self.records && self.id == 1 {
            command.arg(format!("-XX:ArchiveClassesAtExit={}", self.recorded().display()));
        }
        command.arg("kafka.Kafka").arg(settings);
        let name = match self.controllers {
            Some(_) => format!("Kafka's broker {}", self.id),
            None => "Kafka".into(),
        };
        let mut process = Process::spawn(&name, command, &self.log, self.life)?;
        process.until_ready(|| answers(port, self.id)).await?;
        Ok(process)
    }

    /// Returns a Java command that starts fast, uses little memory, and writes nothing to the
    /// system's temporary folder.
    pub(crate) fn java(&self) -> Result<Command, Error> {
        let temp = self.folder.join("tmp");
        let logging = self.folder.join("log4j2.properties");
        let made = fs::create_dir_all(&temp).and_then(|()| fs::write(&logging, LOGGING));
        made.doing(|| format!("write {}", logging.display()))?;
        let mut java = Command::new(&self.java);
        let heap = if self.controllers.is_some() { "-Xmx256m" } else { "-Xmx384m" };
        java.args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .arg(format!("-Djava.io.tmpdir={}", temp.display()))
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(self.jars.join("*"));
        if self.archive.exists() {
            java.arg(format!("-XX:SharedArchiveFile={}", self.archive.display()));
        }
        Ok(java)
    }

    fn write_settings(
        &self,
        name: &str,
        data: &Path,
        port: u16,
        controllers: &[u16],
    ) -> Result<PathBuf, Error> {
        let id = self.id;
        let voters: Vec<_> =
            (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let voters = voters.join(",");
        let controller = controllers.get(usize::from(id) - 1).copied().unwrap_or_default();
        // Every node has each record, and more than half of them acknowledge it.
        let (replicas, in_sync) = (controllers.len(), controllers.len() / 2 + 1);
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             # A misspelt topic is an error, not a new topic.\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             # One partition: a group's first join waits for fewer.\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=1\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             share.coordinator.state.topic.num.partitions=1\n\
             # A group of one member need not wait 3 s for a second.\n\
             group.initial.rebalance.delay.ms=0\n\
             # A broker that was killed may come back when its session is over: 9 s by default.\n\
             broker.session.timeout.ms=3000\n\
             broker.heartbeat.interval.ms=500\n\
             # 128 MB by default, a third of the heap.\n\
             log.cleaner.dedupe.buffer.size=16777216\n",
            data.display()
        );
        for (key, value) in &self.settings {
            let _ = writeln!(text, "{key}={value}");
        }
        let path = self.folder.join(name);
        let written = fs::create_dir_all(&self.folder).and_then(|()| fs::write(&path, text));
        written.doing(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

const LOGGING: &str = "\
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
";

/// Returns `true` if the broker serves: metadata lists it only once the controller lets it.
async fn answers(port: u16, id: u16) -> bool {
    // Tested first, because a Kafka client that was refused waits longer after each attempt.
    if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        return false;
    }
    let ask = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{port}")).set("log_level", "0");
        let client: BaseConsumer = config.create().ok()?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
        Some(metadata.brokers().iter().any(|broker| broker.id() == i32::from(id)))
    };
    tokio::task::spawn_blocking(ask).await.ok().flatten() == Some(true)
}
