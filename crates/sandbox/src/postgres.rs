use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

use crate::{
    Data, Error, Life, Process, ProcessRecord, Progress, ServerOptions, Tools, database,
    error::OperationContext,
    folder::{Folder, TempFolder, fingerprint, make_whole},
    port,
    process::{EndSignals, Launch},
    step,
};

/// Maximum time for Postgres to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Maximum time for which the remains of a killed Postgres may prevent its restart.
const LEFTOVERS: Duration = Duration::from_secs(5);
/// SIGKILL would leave the postmaster's shared memory behind; SIGQUIT ends it at once and cleanly.
const END_SIGNALS: EndSignals = EndSignals { stop: Signal::SIGINT, abandon: Signal::SIGQUIT };

/// Ways to shut Postgres down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends all sessions and writes everything to its files first.
    Fast,
    /// Ends at once, like a crash: the next start recovers from the write-ahead log.
    Immediate,
}

/// A running Postgres. [`stop`](Self::stop) or drop stops it and removes its temporary folder.
#[derive(Debug)]
pub struct Postgres {
    // The fields are dropped in this order: first the process, then its folder.
    process: Process,
    port: u16,
    plan: ServerConfig,
    folder: Folder,
}

/// Settings that all starts of the server share.
#[derive(Debug)]
struct ServerConfig {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    folder: PathBuf,
    log: PathBuf,
    life: Life,
    settings: Vec<(String, String)>,
}

impl Postgres {
    /// Starts Postgres and waits until it answers. Fetches it first if none is installed and it is
    /// not in the cache, and creates its data if there is none.
    ///
    /// Root runs it as the user `postgres`, or as `nobody` if that does not exist.
    /// [`folder`](Self::folder) is another place if that user can't enter the wanted one.
    ///
    /// # Errors
    /// [`Error::PortTaken`], [`Error::NoPostgresUser`], [`Error::Fetch`], [`Error::Ended`] and
    /// [`Error::NotReady`] with the last lines of its log, [`Error::Io`].
    pub async fn start(
        options: ServerOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let bin = tools.postgres_programs(progress).await?;
        let name = format!("Postgres {}", tools.postgres_version());
        let address = |it: &Self| format!("{name} on 127.0.0.1:{}", it.port);
        step(progress, &name, Self::start_quietly(options, bin), address).await
    }

    async fn start_quietly(options: ServerOptions, bin: PathBuf) -> Result<Self, Error> {
        let user = server_user()?;
        let folder = choose_folder(&options.data, user)?;
        let path = folder.path().to_owned();
        let plan = ServerConfig {
            bin,
            user,
            log: options.log.unwrap_or_else(|| path.join("postgres.log")),
            life: options.life,
            settings: settings(folder.is_temporary(), options.settings),
            folder: path,
        };
        make_whole(&plan.data(), async |new| plan.init(&new, folder.is_temporary()).await).await?;
        let (port, process) =
            port::start_on(options.port, async |port| plan.launch(port).await).await?;
        Ok(Self { process, port, plan, folder })
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of its data, passwords and log: the wanted one, or another below
    /// `/var/tmp` if the user that Postgres runs as can't enter that.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the process, for its id, log, pause and resume.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the URL of `database` for the superuser, who needs no password on loopback.
    pub fn admin_url(&self, database: &str) -> String {
        format!("{}/{database}", self.url())
    }

    /// Returns the superuser's URL without a database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// Creates the database `name`, and the role `name` that owns it and alone may connect to it.
    /// Returns the URL with that role's password, which stays the same as long as the data is kept.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], [`Error::Database`], [`Error::Io`] if the password can't be stored.
    pub async fn create_database(&self, name: &str) -> Result<String, Error> {
        let password = self.password(name).doing(|| format!("keep the password of {name}"))?;
        let admin = connect_options(self.port);
        database::create(&admin, name, &password).await?;
        Ok(database::url(&admin, name, &password))
    }

    fn password(&self, name: &str) -> io::Result<String> {
        let file = self.folder().join(format!("{name}.password"));
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let password = database::new_password();
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
                file.write_all(password.as_bytes())?;
                Ok(password)
            }
            read => read,
        }
    }

    /// Shuts it down, and keeps its folder and port for [`start_again`](Self::start_again).
    pub async fn halt(&mut self, how: Shutdown) -> ExitStatus {
        let signal = match how {
            Shutdown::Fast => END_SIGNALS.stop,
            Shutdown::Immediate => END_SIGNALS.abandon,
        };
        self.process.end_by(signal, GRACE).await
    }

    /// Starts it on the same port and data after it was halted or killed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + LEFTOVERS;
        loop {
            let launch = async |port| self.plan.launch(port).await;
            match port::start_on(Some(self.port), launch).await {
                Ok((_, process)) => {
                    self.process = process;
                    return Ok(());
                }
                // Its children were killed with it, but may take a moment longer to disappear.
                Err(Error::Ended { tail, .. })
                    if tail.contains("shared memory block") && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Halts it and starts it again.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self, how: Shutdown) -> Result<(), Error> {
        self.halt(how).await;
        self.start_again().await
    }

    /// Stops it, and removes its folder if that is temporary.
    pub async fn stop(mut self) {
        let how = if self.folder.is_temporary() { Shutdown::Immediate } else { Shutdown::Fast };
        self.halt(how).await;
    }

    /// Leaves it running. Returns the record by which it can be found and stopped later.
    ///
    /// # Errors
    /// [`Error::NotDetachable`] if its data is temporary or it ends with its parent. It is stopped
    /// then.
    pub fn detach(self) -> Result<ProcessRecord, Error> {
        self.process.detach_server(self.port, &self.folder)
    }
}

impl ServerConfig {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    async fn init(&self, data: &Path, temporary: bool) -> Result<(), Error> {
        let made = fs::create_dir(data).and_then(|()| match self.user {
            Some((uid, gid)) => chown(data, Some(uid), Some(gid)),
            None => Ok(()),
        });
        made.doing(|| format!("make {}", data.display()))?;
        let mut command = Command::new(self.bin.join("initdb"));
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(data);
        if temporary {
            command.arg("--no-sync");
        }
        self.spawn("initdb", command, Life::WithParent, EndSignals::default())?.succeed().await?;
        let access = data.join("pg_hba.conf");
        // The superuser needs no password on loopback. A service needs one, so that it fails here,
        // and not in production, if it was given another service's URL. The password is sent as
        // plain text: loopback is private, and a hash costs an unoptimised client 45 ms per
        // connection.
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 password\n";
        fs::write(&access, rules).doing(|| format!("write {}", access.display()))
    }

    async fn launch(&self, port: u16) -> Result<Process, Error> {
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        for (name, value) in &self.settings {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let mut process = self.spawn("Postgres", command, self.life, END_SIGNALS)?;
        process.until_ready(|| answers(port)).await?;
        Ok(process)
    }

    fn spawn(
        &self,
        name: &str,
        mut command: Command,
        life: Life,
        signals: EndSignals,
    ) -> Result<Process, Error> {
        // Postgres' user may not be able to enter the caller's folder.
        command.current_dir(&self.folder);
        Process::launch(Launch { name, command, user: self.user, log: &self.log, life, signals })
    }
}

fn settings(temporary: bool, more: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        ("shared_buffers", "128MB"),
    ];
    if temporary {
        settings.extend([("fsync", "off"), ("full_page_writes", "off")]);
    }
    let own = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
    own.chain(more).collect()
}

fn connect_options(port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username("postgres")
        .database("postgres")
}

async fn answers(port: u16) -> bool {
    let Ok(mut connection) = connect_options(port).connect().await else { return false };
    let answer = sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    answer.is_ok()
}

/// Returns the user that Postgres runs as: `None` for the current one. Postgres refuses root, so
/// root uses the user of its package, or `nobody` if there is none. A numeric id is not enough,
/// since `initdb` looks the name up.
fn server_user() -> Result<Option<(u32, u32)>, Error> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok()?);
    let user = user.ok_or(Error::NoPostgresUser)?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

fn choose_folder(data: &Data, user: Option<(u32, u32)>) -> Result<Folder, Error> {
    match data {
        Data::Temporary => {
            let mut tried = Err(io::Error::from(io::ErrorKind::NotFound));
            for place in [std::env::temp_dir(), "/var/tmp".into(), "/tmp".into()] {
                match TempFolder::new(&place, "orderflow-postgres-") {
                    Ok(folder) if can_enter(user, &folder.path) => {
                        return Ok(Folder::Temporary(folder));
                    }
                    Ok(_) => {}
                    failed => tried = failed,
                }
            }
            tried
                .map(Folder::Temporary)
                .doing(|| "make a temporary folder that Postgres can enter".into())
        }
        Data::Kept(wanted) => {
            let make = || kept_folder(&std::path::absolute(wanted)?, user);
            make().map(Folder::Kept).doing(|| format!("make the folder {}", wanted.display()))
        }
    }
}

/// Returns the wanted folder, or one instead of it that Postgres can enter. Who has removed the
/// wanted folder has meant the data.
fn kept_folder(wanted: &Path, user: Option<(u32, u32)>) -> io::Result<PathBuf> {
    let is_new = !wanted.try_exists()?;
    fs::create_dir_all(wanted)?;
    if can_enter(user, wanted) {
        return Ok(wanted.to_owned());
    }
    let hash = fingerprint(wanted.as_os_str().as_encoded_bytes());
    let instead = PathBuf::from(format!("/var/tmp/orderflow-{hash}"));
    fs::create_dir_all(&instead)?;
    // Anybody may write to /var/tmp, so a folder of another user is not trusted.
    if fs::symlink_metadata(&instead)?.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{} is another user's", instead.display())));
    }
    let instead = instead.join("postgres");
    if is_new && instead.try_exists()? {
        if let Some(pid) = running_on(&instead) {
            let why = format!("Postgres (process {pid}) still runs on {}", instead.display());
            return Err(io::Error::other(format!("{why}; end it first: kill {pid}")));
        }
        fs::remove_dir_all(&instead)?;
    }
    fs::create_dir_all(&instead)?;
    Ok(instead)
}

/// Returns the process of the Postgres that runs on the data of a folder.
fn running_on(folder: &Path) -> Option<String> {
    let lock = fs::read_to_string(folder.join("data").join("postmaster.pid")).ok()?;
    let pid = lock.lines().next()?.trim().to_owned();
    let is_alive = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status();
    is_alive.is_ok_and(|status| status.success()).then_some(pid)
}

/// Returns `true` if the user can enter a folder. Tries it, since that depends on every folder
/// above.
fn can_enter(user: Option<(u32, u32)>, folder: &Path) -> bool {
    user.is_none_or(|(uid, gid)| {
        Command::new("true").uid(uid).gid(gid).current_dir(folder).status().is_ok()
    })
}
