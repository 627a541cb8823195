//! Prepares a new system for the tour, and removes it afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox::ProcessRecord;

use super::{Error, page::Mark};

/// The variant of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// The system of `make local`
    Local,
    /// The system in containers
    Docker,
}

impl Variant {
    /// Returns `true` if blocks of this mark are for this variant.
    pub(crate) fn has(self, mark: Mark) -> bool {
        match mark {
            Mark::Every => true,
            Mark::Local => self == Self::Local,
            Mark::Docker => self == Self::Docker,
            Mark::Extra => false,
        }
    }

    /// Returns the time limit of a block. The first block in containers includes their build.
    pub(crate) fn limit(self, mark: Mark) -> Duration {
        match (self, mark) {
            (_, Mark::Extra) => Duration::from_hours(1),
            (Self::Docker, Mark::Docker) => Duration::from_mins(30),
            _ => Duration::from_mins(3),
        }
    }
}

/// A folder for the output of the commands and for the data of the system.
pub(crate) struct WorkFolder {
    variant: Variant,
    /// The root of the repository.
    pub(crate) root: PathBuf,
    /// Output of the commands.
    pub(crate) printed: PathBuf,
    /// Data, logs and records of `make local`.
    local: PathBuf,
    /// Held while the tour runs.
    _lock: File,
}

impl WorkFolder {
    /// Prepares the folder. Stops and removes what a killed tour has left.
    pub(crate) fn prepare(variant: Variant, root: &Path, folder: &Path) -> Result<Self, Error> {
        let printed = folder.join("printed");
        let make = || {
            fs::create_dir_all(&printed)?;
            File::create(folder.join(".lock"))
        };
        let lock = make().map_err(Error::io(format!("write {}", folder.display())))?;
        lock.try_lock().map_err(|_| Error::Busy(folder.to_owned()))?;
        // A new name each time: as root, Postgres keeps its data elsewhere, in a folder that is
        // named after this one.
        let local = folder.join(format!("local-{}", std::process::id()));
        let work_folder = Self { variant, root: root.to_owned(), printed, local, _lock: lock };
        let entries = fs::read_dir(folder).map_err(Error::io("read the tour's folder"))?;
        for left in entries.flatten().map(|entry| entry.path()) {
            if left.file_name().is_some_and(|it| it.to_string_lossy().starts_with("local-")) {
                work_folder.remove_local(&left)?;
            }
        }
        if variant == Variant::Docker {
            work_folder.expect_no_containers()?;
        }
        Ok(work_folder)
    }

    /// Returns the environment of the commands.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LOCAL_FOLDER", self.local.display().to_string()),
            ("COMPOSE_PROJECT_NAME", "orderflow-tour".into()),
        ]
    }

    /// Stops the system and removes its data.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        match self.variant {
            Variant::Local => self.remove_local(&self.local),
            Variant::Docker => {
                let mut nuke = self.command("deploy/system");
                nuke.arg("nuke").envs(self.environment());
                succeed(&mut nuke)
            }
        }
    }

    fn remove_local(&self, folder: &Path) -> Result<(), Error> {
        if !folder.exists() {
            return Ok(());
        }
        let data = data_folders(folder);
        let program = playground::programs_folder().map(|it| it.join("playground"));
        let program =
            program.map_err(|error| Error::io("find playground")(std::io::Error::other(error)))?;
        let mut stop = self.command(program);
        stop.args(["local", "stop", "--folder"]).arg(folder);
        succeed(stop.stdout(Stdio::null()))?;
        for folder in data.iter().map(PathBuf::as_path).chain([folder]) {
            let removed = fs::remove_dir_all(folder);
            if folder.exists() {
                removed.map_err(Error::io(format!("remove {}", folder.display())))?;
            }
        }
        Ok(())
    }

    fn expect_no_containers(&self) -> Result<(), Error> {
        let mut list = self.command("docker");
        let folder = self.root.display();
        list.args(["ps", "--all", "--quiet", "--filter"])
            .arg(format!("label=com.docker.compose.project.working_dir={folder}"));
        // Errors of docker are shown to the user.
        let output = list.stderr(Stdio::inherit()).output().map_err(Error::io("run docker"))?;
        match (output.status.success(), output.stdout.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(Error::Containers),
            (false, _) => Err(Error::Command { command: format!("{list:?}") }),
        }
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }
}

/// Returns the data folders of the started processes, without those inside `local`.
fn data_folders(local: &Path) -> Vec<PathBuf> {
    let records = fs::read_dir(local.join("run")).into_iter().flatten().flatten();
    let read =
        records.filter_map(|it| fs::read_to_string(it.path()).ok()?.parse::<ProcessRecord>().ok());
    let folders = read.filter_map(|record| record.folder);
    folders.filter(|folder| !folder.starts_with(local)).collect()
}

fn succeed(command: &mut Command) -> Result<(), Error> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(Error::io(format!("run {shown}")))?;
    if status.success() { Ok(()) } else { Err(Error::Command { command: shown }) }
}
