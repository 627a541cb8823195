//! Reloads a file when it changes and on SIGHUP.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a changed file must stay the same before it is read. A program that writes into the
/// file instead of replacing it would otherwise be met halfway.
const SETTLES_IN: Duration = Duration::from_millis(200);

/// Requests a reload of all watched files. Clones reach the same files.
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

/// A watched file.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    path: PathBuf,
    seen: Seen,
}

/// Digest of the text that was read last, or the error of the last read. A modification time would
/// not do: a file that is written twice within one tick of the clock, or replaced by an equally old
/// one, keeps it.
type Seen = Result<[u8; 32], io::ErrorKind>;

impl LiveFile {
    /// Reads a file. Returns its text, and the file to watch from here on.
    pub(crate) fn open(path: impl Into<PathBuf>) -> (io::Result<String>, Self) {
        let path = path.into();
        let text = std::fs::read_to_string(&path);
        let seen = seen(&text);
        (text, Self { path, seen })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file is the same at two reads, and returns its text.
    async fn settled(&self, mut before: Seen) -> io::Result<String> {
        loop {
            tokio::time::sleep(SETTLES_IN).await;
            let text = tokio::fs::read_to_string(&self.path).await;
            let now = seen(&text);
            if now == before {
                return text;
            }
            before = now;
        }
    }

    /// Calls `replace` with the text whenever it has changed or a reload was requested, until
    /// shutdown. `setting` names the file in the log. If `replace` fails, it must keep the old
    /// value.
    pub(crate) async fn keep_current<E: std::error::Error + 'static>(
        mut self,
        setting: &'static str,
        reload: Reload,
        shutdown: CancellationToken,
        replace: impl Fn(&str) -> Result<usize, E>,
    ) {
        let mut reloads = reload.0.subscribe();
        loop {
            let is_requested = tokio::select! {
                () = shutdown.cancelled() => return,
                reloads = reloads.changed() => reloads.is_ok(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = seen(&tokio::fs::read_to_string(&self.path).await);
            if now == self.seen && !is_requested {
                continue;
            }
            let Some(text) = shutdown.run_until_cancelled(self.settled(now)).await else { return };
            self.seen = seen(&text);
            let replaced = match text {
                Ok(text) => replace(&text).map_err(|error| Box::new(error) as Box<dyn Error>),
                Err(error) => Err(Box::new(error) as Box<dyn Error>),
            };
            match replaced {
                Ok(entries) => tracing::info!(setting, entries, "file reloaded"),
                Err(error) => tracing::error!(
                    error = &*error,
                    setting,
                    path = %self.path.display(),
                    "file not reloaded, keeping the old entries"
                ),
            }
        }
    }
}

fn seen(text: &io::Result<String>) -> Seen {
    match text {
        Ok(text) => Ok(Sha256::digest(text).into()),
        Err(error) => Err(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_read_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tenants");
        let write = |text| std::fs::write(&path, text).expect("a file");
        write("a-key=acme");
        let (_, file) = LiveFile::open(&path);
        let read = Arc::new(Mutex::new(Vec::new()));
        let (reload, shutdown, texts) = (Reload::default(), CancellationToken::new(), read.clone());
        let watching = tokio::spawn(file.keep_current(
            "TENANTS_FILE",
            reload,
            shutdown.clone(),
            move |text| {
                texts.lock().expect("no panic").push(text.to_owned());
                Ok::<_, io::Error>(1)
            },
        ));
        write("a-key=ac");
        tokio::time::sleep(LOOK_EVERY + SETTLES_IN / 2).await;
        write("a-key=acme-2");
        tokio::time::sleep(LOOK_EVERY).await;
        assert_eq!(*read.lock().expect("no panic"), ["a-key=acme-2"]);
        shutdown.cancel();
        watching.await.expect("no panic");
    }
}
