//! Billing of an earlier release, built from this repository, to run together with this tree's.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use sandbox::Console;

use super::Error;
use super::copied_tree::{CopiedTree, OperationContext, TreeError, run, succeeded};

/// Commit of the earlier release: the last one before failures were classified by their cause and
/// memory had a budget. This tree's migrations add tables and columns that it does not know.
/// Replace it with a later release once it need no longer run together with this tree.
const BASELINE: &str = "48f0431cdcd1970cf64638a527a5c1cb62343227";
/// Packages of it to build.
const PACKAGES: [&str; 2] = ["orderflow-billing", "orderflow-sabotage"];
const SERVICES: [&str; 4] = ["order", "billing", "notification", "analytics"];

/// The release of billing to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Release {
    Earlier,
    /// The release built from this tree.
    Current,
}

/// Programs of both releases, and a folder of links to the release that is started as `billing`.
#[derive(Debug)]
pub(crate) struct Releases {
    links: PathBuf,
    current: PathBuf,
    earlier: PathBuf,
}

impl Releases {
    /// Builds the earlier release in `folder` if needed. `programs` is the folder of this tree's
    /// programs.
    pub(crate) async fn build(folder: &Path, programs: &Path) -> Result<Self, Error> {
        let current = absolute(programs)?;
        let name = format!("billing of {}", short());
        let work = {
            let (folder, current) = (folder.to_owned(), current.clone());
            async { tokio::task::spawn_blocking(move || build(&folder, &current)).await? }
        };
        let built = |_: &PathBuf| "built".to_owned();
        let earlier = sandbox::step(&Console::new(), &name, work, built).await?;
        let links = absolute(folder)?.join("programs");
        fs::create_dir_all(&links)?;
        let releases = Self { links, current, earlier };
        for service in SERVICES {
            releases.link(service, &releases.current)?;
        }
        Ok(releases)
    }

    /// Returns the folder from which services are started.
    pub(crate) fn programs(&self) -> &Path {
        &self.links
    }

    /// Starts billing of this release from now on.
    pub(crate) fn start_billing_of(&self, release: Release) -> io::Result<()> {
        self.link("billing", self.programs_of(release))
    }

    /// Fails if the process does not execute billing of this release.
    pub(crate) fn expect(&self, release: Release, process: u32) -> Result<(), Error> {
        let executed = fs::read_link(format!("/proc/{process}/exe"))?;
        if executed == self.programs_of(release).join("billing") {
            return Ok(());
        }
        Err(format!("{} runs instead of the {release:?} release", executed.display()).into())
    }

    fn programs_of(&self, release: Release) -> &Path {
        match release {
            Release::Earlier => &self.earlier,
            Release::Current => &self.current,
        }
    }

    /// Replaces a link atomically, so that it always exists.
    fn link(&self, service: &str, programs: &Path) -> io::Result<()> {
        let new = self.links.join(format!("{service}.new"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(programs.join(service), &new)?;
        fs::rename(new, self.links.join(service))
    }
}

fn short() -> &'static str {
    &BASELINE[..7]
}

/// Builds the earlier release and returns the folder of its programs. Its sources never change, so
/// they are extracted once.
fn build(folder: &Path, programs: &Path) -> Result<PathBuf, Error> {
    // Each commit has a separate folder, since cargo would not notice that files became older.
    let folder = folder.join(short());
    let tree = CopiedTree::new(&folder)?;
    if !tree.copy.exists() {
        fs::create_dir_all(&folder)?;
        extract(&folder, &tree.copy)?;
    }
    tree.reuse_dependencies(programs)?;
    tree.build(&PACKAGES)
        .map_err(|reason| TreeError::ReleaseNotBuilt { commit: short(), reason })?;
    Ok(tree.programs())
}

fn extract(folder: &Path, to: &Path) -> Result<(), TreeError> {
    let archive = folder.join("tree.tar");
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", "-o"]).arg(&archive).arg(BASELINE);
    succeeded(&run("git", &mut git)?)
        .map_err(|reason| TreeError::NoCommit { commit: short(), reason })?;
    // Renamed once it is complete.
    let new = folder.join("tree.new");
    fs::create_dir_all(&new).doing("make", &new)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(&new);
    succeeded(&run("tar", &mut tar)?)
        .map_err(|reason| TreeError::Command { program: "tar", reason })?;
    fs::rename(&new, to).doing("make", to)?;
    fs::remove_file(&archive).doing("remove", &archive)
}
