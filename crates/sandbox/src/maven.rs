use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::sync::Mutex;

use crate::{
    Error, Life, MissingTools, Process, Progress, Tools,
    error::OperationContext,
    folder::{fingerprint, make_whole},
    step,
};

/// Held by the running Maven, since two of them may read each other's unfinished files in the local
/// repository.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// An artifact that Maven fetches once, into the folder given as `outputDirectory`.
pub(crate) struct Artifact {
    /// Name with the version.
    pub(crate) name: &'static str,
    /// Approximate size of the download.
    pub(crate) megabytes: u32,
    pub(crate) pom: &'static str,
    /// Goals of Maven, unless the pom has default ones, and properties.
    pub(crate) arguments: &'static [&'static str],
}

impl Artifact {
    /// Returns the name of its folder, which changes with the pom.
    pub(crate) fn folder_name(&self) -> String {
        let name = self.name.to_lowercase().replace(' ', "-");
        format!("{name}-{}", fingerprint(self.pom.as_bytes()))
    }

    /// Fetches it into `folder` if that does not exist. An interrupted or concurrent fetch never
    /// leaves an incomplete folder.
    ///
    /// # Errors
    /// [`Error::MissingTools`] without Maven, [`Error::Fetch`] with its last lines if it fails,
    /// [`Error::Io`] if the folder can't be written.
    pub(crate) async fn fetch(
        &self,
        folder: &Path,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        if folder.exists() {
            return Ok(());
        }
        let fetch = make_whole(folder, async |new| {
            let _turn = ONE_AT_A_TIME.lock().await;
            self.run_maven(&new, tools).await
        });
        let step_name = format!("fetching {} (once, {} MB)", self.name, self.megabytes);
        step(progress, &step_name, fetch, |()| format!("{} fetched", self.name)).await
    }

    async fn run_maven(&self, new: &Path, tools: &Tools) -> Result<(), Error> {
        let maven = tools.maven.as_ref().ok_or_else(|| MissingTools::maven(self.name))?;
        let pom = new.with_file_name("pom.xml");
        fs::write(&pom, self.pom).doing(|| format!("write {}", pom.display()))?;
        // Postgres' user has to read the files that root fetches, regardless of root's umask, and
        // only root may write it.
        let mut command = Command::new("sh");
        command.args(["-c", r#"umask 022; exec "$0" "$@""#]).arg(maven);
        // Maven 3 would keep a file with a wrong checksum, and warn.
        command.args(["-q", "-B", "--strict-checksums", "-f"]).arg(&pom).args(self.arguments);
        command.arg(format!("-DoutputDirectory={}", new.display()));
        let log = new.with_file_name("maven.log");
        let maven = Process::spawn("Maven", command, &log, Life::WithParent)?;
        maven.succeed().await.map_err(|error| match error {
            Error::Ended { tail, .. } => Error::Fetch { what: self.name, tail },
            other => other,
        })
    }
}

/// Returns the project's folder in the user's cache.
pub(crate) fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join("orderflow")
}
