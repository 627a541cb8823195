use std::{
    fmt::Write as _,
    fs, iter,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tokio::net::TcpStream;

use crate::{
    Data, Error, Life, Process, Progress, Record, ServerOptions, Tools,
    error::While,
    folder::{Folder, TempFolder, make_whole},
    jars::{self, KAFKA_VERSION, kafka_jars},
    port, step,
};

/// How long Kafka may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A running Kafka: one node, broker and controller. Stopped (and its temporary folder removed) by
/// [`stop`](Self::stop) or drop.
#[derive(Debug)]
pub struct Kafka {
    // Dropped in this order: first the process, then its folder.
    process: Process,
    port: u16,
    plan: Plan,
    /// Whether it writes down the classes that it loads.
    records: bool,
    folder: Folder,
}

/// What every start of the same server has in common.
#[derive(Debug)]
struct Plan {
    java: PathBuf,
    jars: PathBuf,
    /// The classes that Kafka loads, ready for this Java to map: it starts in half the time. The
    /// first temporary Kafka to be stopped leaves it in the cache.
    archive: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    life: Life,
    settings: Vec<(String, String)>,
}

impl Kafka {
    /// Starts Kafka and waits until it answers; fetches it first if it is not in the cache, and
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
        let jars = kafka_jars(tools, progress).await?;
        let name = format!("Kafka {KAFKA_VERSION}");
        let said = |it: &Self| format!("{name} on {}", it.brokers());
        step(progress, &name, Self::start_quietly(options, tools, jars), said).await
    }

    async fn start_quietly(
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
        let plan = Plan {
            archive: jars::archive(tools),
            java: tools.java.clone(),
            jars,
            log: options.log.unwrap_or_else(|| path.join("kafka.log")),
            life: options.life,
            settings: options.settings,
            folder: path,
        };
        make_whole(&plan.data(), async |new| plan.format(&new).await).await?;
        let records = folder.is_temporary() && !plan.archive.exists();
        let (port, process) =
            port::start_on(options.port, async |port| plan.launch(port, records).await).await?;
        Ok(Self { process, port, plan, records, folder })
    }

    /// Its address, as `KAFKA_BROKERS` wants it.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its data, settings and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process: its id, log, pause and resume.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs one of Kafka's own command-line tools against it, by the name of its class (`org.apache.kafka.tools.AclCommand`),
    /// and waits until it has succeeded.
    ///
    /// # Errors
    /// [`Error::Ended`] with the last lines that it wrote if it failed, [`Error::Io`].
    pub async fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut command = self.plan.java()?;
        command.arg(class).args(["--bootstrap-server", &self.brokers()]).args(arguments);
        let log = self.folder().join("tool.log");
        Process::spawn(class, command, &log, Life::WithParent)?.succeed().await
    }

    /// Shuts it down; its folder and port stay for [`start_again`](Self::start_again).
    pub async fn halt(&mut self) -> ExitStatus {
        self.process.stop(GRACE).await
    }

    /// Starts it on the same port and data after it was halted or killed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<(), Error> {
        self.process = port::start_on(Some(self.port), async |port| {
            self.plan.launch(port, self.records).await
        })
        .await?
        .1;
        Ok(())
    }

    /// Stops it, and removes its folder if that is temporary.
    pub async fn stop(mut self) {
        if self.folder.is_temporary() && (!self.records || self.plan.archive.exists()) {
            // Nothing to keep, so nothing to wait for.
            self.process.kill_9().await;
            return;
        }
        let wrote_all = self.halt().await.code().is_some();
        if self.records && wrote_all {
            let keep = async |new| fs::copy(self.plan.recorded(), new).map(drop).doing(String::new);
            // Without it the next start is slower and nothing else.
            let _ = make_whole(&self.plan.archive, keep).await;
        }
    }

    /// Leaves it running. Gives the record by which it is found and stopped later.
    ///
    /// # Errors
    /// [`Error::NotDetachable`] if its data is temporary or its life its parent's; it is stopped then.
    pub fn detach(self) -> Result<Record, Error> {
        self.process.detach_server(self.port, &self.folder)
    }
}

impl Plan {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn recorded(&self) -> PathBuf {
        self.folder.join("classes.jsa")
    }

    async fn format(&self, data: &Path) -> Result<(), Error> {
        // The ports are not used yet; the tool only wants to see some.
        let settings = self.write_settings("format.properties", data, 9092, 9093)?;
        let mut command = self.java()?;
        command
            .args(["kafka.tools.StorageTool", "format", "-t", &cluster_id(), "-c"])
            .arg(settings);
        Process::spawn("Kafka's format tool", command, &self.log, Life::WithParent)?.succeed().await
    }

    async fn launch(&self, port: u16, records: bool) -> Result<Process, Error> {
        let controller = port::free().doing(|| "find a free port".into())?;
        let settings = self.write_settings("server.properties", &self.data(), port, controller)?;
        let mut command = self.java()?;
        if records {
            command.arg(format!("-XX:ArchiveClassesAtExit={}", self.recorded().display()));
        }
        command.arg("kafka.Kafka").arg(settings);
        let mut process = Process::spawn("Kafka", command, &self.log, self.life)?;
        process.until_ready(|| answers(port)).await?;
        Ok(process)
    }

    /// A Java that starts fast, stays small and leaves nothing in the system's temporary folder.
    fn java(&self) -> Result<Command, Error> {
        let temp = self.folder.join("tmp");
        let logging = self.folder.join("log4j2.properties");
        let made = fs::create_dir_all(&temp).and_then(|()| fs::write(&logging, LOGGING));
        made.doing(|| format!("write {}", logging.display()))?;
        let mut java = Command::new(&self.java);
        java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
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
        controller: u16,
    ) -> Result<PathBuf, Error> {
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             # A misspelt topic is an error, not a new topic.\n\
             auto.create.topics.enable=false\n\
             # One node: nobody to replicate to. One partition: a group's first join waits for fewer.\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
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
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
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

/// 16 bytes in Kafka's base64, the last of which carries but two bits; no leading dash, which would
/// read as an option.
fn cluster_id() -> String {
    let mut id: String = iter::repeat_with(fastrand::alphanumeric).take(21).collect();
    id.extend(fastrand::choice(['A', 'Q', 'g', 'w']));
    id
}

/// Metadata lists a broker only when the controller lets it serve.
async fn answers(port: u16) -> bool {
    // First this, because a Kafka client that was refused waits longer and longer.
    if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        return false;
    }
    let ask = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{port}")).set("log_level", "0");
        let client: BaseConsumer = config.create().ok()?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
        Some(!metadata.brokers().is_empty())
    };
    tokio::task::spawn_blocking(ask).await.ok().flatten() == Some(true)
}
