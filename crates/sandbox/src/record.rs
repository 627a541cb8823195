use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use nix::sys::signal::{Signal, killpg};

use crate::{
    process::{pid, signal_each},
    process_table::{Identity, descendants},
};

/// Record of a process that was left running, by which a later process can find and stop it.
///
/// `Display` writes it as one line, which `FromStr` reads. It contains the start time of the
/// process, so that another process with the same id is never mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Name of the process.
    pub name: String,
    /// Port that it listens on, for a server.
    pub port: Option<u16>,
    /// Folder of its data, for a server.
    pub folder: Option<PathBuf>,
    pub(crate) identity: Identity,
    pub(crate) stop: Signal,
}

impl ProcessRecord {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Returns `true` if the recorded process still runs.
    pub fn is_alive(&self) -> bool {
        self.identity.is_alive()
    }

    /// Asks it to end. Kills it with its descendants if it still runs after `grace`. Does nothing
    /// if it has ended already. Returns `true` if it has ended.
    pub async fn stop(&self, grace: Duration) -> bool {
        let mut family = descendants(self.pid());
        family.push(self.identity.clone());
        for (signal, limit) in [(self.stop, grace), (Signal::SIGKILL, Duration::from_secs(2))] {
            if !self.is_alive() {
                return true;
            }
            signal_each(&family, Signal::SIGCONT);
            if signal == Signal::SIGKILL {
                signal_each(&family, signal);
            } else {
                let _ = killpg(pid(self.pid()), signal);
            }
            let ended = async {
                while self.is_alive() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout(limit, ended).await;
        }
        !self.is_alive()
    }
}

impl fmt::Display for ProcessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| port.to_string()).unwrap_or_default();
        let folder = self.folder.as_deref().map(|folder| folder.display().to_string());
        let (identity, folder) = (&self.identity, folder.unwrap_or_default());
        let (name, pid, started, stop) = (&self.name, identity.pid, &identity.started, self.stop);
        write!(f, "{name}\t{pid}\t{started}\t{stop}\t{port}\t{folder}")
    }
}

/// A line that is not a [`ProcessRecord`].
#[derive(Debug, thiserror::Error)]
#[error("not the record of a process: {0:?}")]
pub struct NoProcessRecord(String);

impl FromStr for ProcessRecord {
    type Err = NoProcessRecord;

    fn from_str(line: &str) -> Result<Self, NoProcessRecord> {
        let read = || {
            let [name, pid, started, stop, port, folder] =
                line.trim_end_matches('\n').splitn(6, '\t').collect::<Vec<_>>().try_into().ok()?;
            Some(Self {
                name: name.into(),
                port: if port.is_empty() { None } else { Some(port.parse().ok()?) },
                folder: (!folder.is_empty()).then(|| folder.into()),
                identity: Identity { pid: pid.parse().ok()?, started: started.into() },
                stop: stop.parse().ok()?,
            })
        };
        read().ok_or_else(|| NoProcessRecord(line.into()))
    }
}
