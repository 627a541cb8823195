use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    Error, ProcessRecord,
    error::OperationContext,
    folder::Folder,
    process_table::{Identity, descendants},
};

/// Maximum time until a server answers.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Interval at which a process is checked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whether a process may outlive its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Life {
    /// Ends with its parent, even if that is killed by SIGKILL (on Linux, with util-linux's
    /// `setpriv`).
    #[default]
    WithParent,
    /// Can be left running with `detach`. Until then it is ended on drop like any other process.
    MayOutlive,
}

/// The signal that asks a process to end, and the one to use when nothing needs to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndSignals {
    pub(crate) stop: Signal,
    pub(crate) abandon: Signal,
}

impl Default for EndSignals {
    fn default() -> Self {
        Self { stop: Signal::SIGTERM, abandon: Signal::SIGKILL }
    }
}

/// Arguments of [`Process::launch`].
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: Command,
    /// User and group id to run as, if they differ from the current ones.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) log: &'a Path,
    pub(crate) life: Life,
    pub(crate) signals: EndSignals,
}

/// A child process that logs to a file and has no input.
///
/// It has a separate process group, so that Ctrl-C on the terminal reaches only its parent, which
/// ends its children in its own order. A process that is dropped while it runs is killed with all
/// its descendants.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    exit: Option<ExitStatus>,
    log: PathBuf,
    /// Offset in the log file where the lines of this process begin.
    log_from: u64,
    life: Life,
    signals: EndSignals,
    detached: bool,
}

impl Process {
    /// Starts `command` with its output appended to `log`. Program, arguments, folder and
    /// environment are those of `command`, except that `env_clear` has no effect.
    ///
    /// # Errors
    /// [`Error::Io`] if the log can't be written or the program can't be started.
    pub fn spawn(name: &str, command: Command, log: &Path, life: Life) -> Result<Self, Error> {
        Self::launch(Launch {
            name,
            command,
            user: None,
            log,
            life,
            signals: EndSignals::default(),
        })
    }

    pub(crate) fn launch(launch: Launch<'_>) -> Result<Self, Error> {
        let Launch { name, command, user, log, life, signals } = launch;
        let open = || -> io::Result<(u64, File, File)> {
            fs::create_dir_all(log.parent().unwrap_or(Path::new(".")))?;
            let file = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((file.metadata()?.len(), file.try_clone()?, file))
        };
        let (log_from, out, err) =
            open().doing(|| format!("write {name}'s log {}", log.display()))?;
        let mut command = match life {
            Life::WithParent => ended_with_parent(command, signals.abandon),
            Life::MayOutlive => command,
        };
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let program = command.get_program().to_owned();
        let child = spawn_on_lasting_thread(command)
            .doing(|| format!("start {name} ({})", program.display()))?;
        let (name, log) = (name.to_owned(), log.to_owned());
        Ok(Self { name, child, exit: None, log, log_from, life, signals, detached: false })
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns its exit status, or `None` while it runs.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }

    /// Waits until it has ended.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.try_exit() {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to end. Kills it with its descendants if it still runs after `grace`.
    pub async fn stop(&mut self, grace: Duration) -> ExitStatus {
        self.end_by(self.signals.stop, grace).await
    }

    /// Kills it and its descendants with SIGKILL, and waits until it has ended.
    pub async fn kill_9(&mut self) -> ExitStatus {
        self.signal_all(Signal::SIGKILL);
        self.wait().await
    }

    /// Pauses it and its descendants with SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&mut self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Resumes it after [`pause`](Self::pause), with SIGCONT.
    pub fn resume(&mut self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Leaves it running. Returns the record by which a later process finds and stops it.
    ///
    /// # Errors
    /// [`Error::NotDetachable`] if it was not started with [`Life::MayOutlive`] (it is ended then),
    /// [`Error::Ended`] if it has ended already.
    pub fn detach(mut self) -> Result<ProcessRecord, Error> {
        if self.life != Life::MayOutlive {
            return Err(Error::NotDetachable(self.name.clone()));
        }
        if let Some(status) = self.try_exit() {
            return Err(self.ended(status));
        }
        let identity = Identity::of(self.pid())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .doing(|| format!("read the start time of {}", self.name))?;
        self.detached = true;
        let (name, stop) = (self.name.clone(), self.signals.stop);
        Ok(ProcessRecord { name, port: None, folder: None, identity, stop })
    }

    /// Detaches a server with its port and folder. Fails if its folder is temporary.
    pub(crate) fn detach_server(self, port: u16, folder: &Folder) -> Result<ProcessRecord, Error> {
        if folder.is_temporary() {
            return Err(Error::NotDetachable(self.name.clone()));
        }
        let mut record = self.detach()?;
        record.port = Some(port);
        record.folder = Some(folder.path().to_owned());
        Ok(record)
    }

    pub(crate) async fn end_by(&mut self, signal: Signal, grace: Duration) -> ExitStatus {
        // A paused process would not receive the signal.
        self.signal_all(Signal::SIGCONT);
        self.signal_group(signal);
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.kill_9().await
    }

    /// Waits for the end of a process that performs one task.
    ///
    /// # Errors
    /// [`Error::Ended`] if it did not succeed.
    pub(crate) async fn succeed(mut self) -> Result<(), Error> {
        let status = self.wait().await;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Repeats `answers` until it returns `true`.
    ///
    /// # Errors
    /// [`Error::Ended`] if the process ends first, [`Error::NotReady`] if it takes too long.
    pub async fn until_ready<F, Fut>(&mut self, mut answers: F) -> Result<(), Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            if let Some(status) = self.try_exit() {
                return Err(self.ended(status));
            }
            if tokio::time::timeout(Duration::from_secs(3), answers()).await == Ok(true) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (name, log, tail) = (self.name.clone(), self.log.clone(), self.log_tail());
        Err(Error::NotReady { name, after: READY_WITHIN, log, tail })
    }

    /// Returns the last lines that this process logged.
    pub fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_from.max(end.saturating_sub(64 * 1024))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let (name, log, tail) = (self.name.clone(), self.log.clone(), self.log_tail());
        Error::Ended { name, status, log, tail }
    }

    /// Sends a signal to the group. Does nothing once the process has ended, since its id may
    /// belong to another process by then.
    fn signal_group(&mut self, signal: Signal) {
        if self.try_exit().is_none() {
            let _ = killpg(pid(self.pid()), signal);
        }
    }

    /// Sends a signal to the group and to all descendants, because some leave the group: each of
    /// Postgres' processes has its own session.
    fn signal_all(&mut self, signal: Signal) {
        if signal != Signal::SIGCONT {
            // A paused process does not fork while its descendants are listed.
            self.signal_group(Signal::SIGSTOP);
        }
        let family = descendants(self.pid());
        self.signal_group(signal);
        signal_each(&family, signal);
    }

    fn wait_blocking(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.try_exit().is_none() {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.detached || self.try_exit().is_some() {
            return;
        }
        if self.signals.abandon != Signal::SIGKILL {
            self.signal_all(Signal::SIGCONT);
            self.signal_group(self.signals.abandon);
            if self.wait_blocking(Duration::from_secs(2)) {
                return;
            }
        }
        self.signal_all(Signal::SIGKILL);
        self.wait_blocking(Duration::from_secs(2));
    }
}

pub(crate) fn signal_each(processes: &[Identity], signal: Signal) {
    for process in processes.iter().filter(|process| process.is_alive()) {
        let _ = kill(pid(process.pid), signal);
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

/// Makes the kernel send `signal` when the parent ends. `setpriv` replaces itself by the program,
/// so the process id is the program's.
fn ended_with_parent(command: Command, signal: Signal) -> Command {
    static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
        let help = Command::new("setpriv").arg("--help").output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--pdeathsig"))
    });
    if !*SETPRIV {
        return command;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", signal.as_str().trim_start_matches("SIG"), "--"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// Spawns a process from a thread that never ends. The kernel's "parent" of [`ended_with_parent`]
/// is a thread instead of a process: a server that is spawned from a thread pool would end when its
/// thread does.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, result) = mpsc::channel();
    SPAWNER.send((command, reply)).map_err(io::Error::other)?;
    result.recv().map_err(io::Error::other)?
}
