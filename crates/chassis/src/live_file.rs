//! A file that is read again when it changes, and when the process is told to by SIGHUP.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tells all files to be read again. Clones tell the same files.
#[derive(Clone, Debug)]
pub(crate) struct Reload(watch::Sender<()>);

impl Default for Reload {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

impl Reload {
    pub(crate) fn now(&self) {
        self.0.send_replace(());
    }
}

/// A file whose value is in use.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    path: PathBuf,
    /// When it had changed, before it was read.
    changed_at: Option<SystemTime>,
}

impl LiveFile {
    /// Begins to watch a file. Call it before reading: what changes in between is read once more, and not missed.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { changed_at: changed_at(&path), path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `read` whenever the file is to be read again, until shutdown. `setting` names it in the log. If `read` fails,
    /// the value is to stay as it is.
    pub(crate) async fn keep_current<E: std::error::Error + 'static>(
        self,
        setting: &'static str,
        reload: Reload,
        shutdown: CancellationToken,
        read: impl Fn(&Path) -> Result<usize, E>,
    ) {
        let mut told = reload.0.subscribe();
        let mut known = self.changed_at;
        loop {
            let is_told = tokio::select! {
                () = shutdown.cancelled() => return,
                told = told.changed() => told.is_ok(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = changed_at(&self.path);
            if now == known && !is_told {
                continue;
            }
            known = now;
            match read(&self.path) {
                Ok(entries) => tracing::info!(setting, entries, "file reloaded"),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    setting,
                    "file not reloaded, keeping the old entries"
                ),
            }
        }
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}
