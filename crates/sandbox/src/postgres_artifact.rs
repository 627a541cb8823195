//! Postgres from Maven Central, for machines where none is installed. It contains `initdb`,
//! `postgres` and `pg_ctl`, but neither `psql` nor `pgbench`.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::{
    Error, Progress, Tools,
    error::OperationContext,
    maven::{Artifact, cache},
};

/// Major version in the pom.
pub(crate) const MAJOR_VERSION: u32 = 18;
const NAME: &str = "Postgres 18.4";
/// Cache for root: the user that Postgres runs as can't enter root's home.
const CACHE_OF_ROOT: &str = "/var/cache/orderflow";

/// The artifact for this platform. `None` if none runs on it: those for Linux are linked to glibc.
const POSTGRES: Option<Artifact> = {
    let linux = cfg!(all(target_os = "linux", target_env = "gnu"));
    let macos = cfg!(target_os = "macos");
    let (x86_64, arm64) = (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64"));
    if linux && x86_64 {
        Some(artifact(15, &["-Dplatform=linux-amd64", "-Darchive=linux-x86_64"]))
    } else if linux && arm64 {
        Some(artifact(14, &["-Dplatform=linux-arm64v8", "-Darchive=linux-arm_64"]))
    } else if macos && x86_64 {
        Some(artifact(33, &["-Dplatform=darwin-amd64", "-Darchive=darwin-x86_64"]))
    } else if macos && arm64 {
        Some(artifact(33, &["-Dplatform=darwin-arm64v8", "-Darchive=darwin-arm_64"]))
    } else {
        None
    }
};

const fn artifact(megabytes: u32, arguments: &'static [&'static str]) -> Artifact {
    Artifact { name: NAME, megabytes, pom: include_str!("../postgres-pom.xml"), arguments }
}

/// Returns the folder of the fetched artifact, or `None` if there is none for this platform.
pub(crate) fn folder() -> Option<PathBuf> {
    let cache = if geteuid().is_root() { CACHE_OF_ROOT.into() } else { cache() };
    Some(cache.join(POSTGRES?.folder_name()))
}

/// Returns the folder of its programs, and fetches them first if needed.
///
/// # Errors
/// As [`Artifact::fetch`], and [`Error::Io`] if root's cache belongs to another user.
pub(crate) async fn fetch(
    folder: &Path,
    tools: &Tools,
    progress: &dyn Progress,
) -> Result<PathBuf, Error> {
    if geteuid().is_root() {
        make_cache_of_root().doing(|| format!("make the folder {CACHE_OF_ROOT}"))?;
    }
    if let Some(postgres) = POSTGRES {
        postgres.fetch(folder, tools, progress).await?;
    }
    Ok(folder.join("bin"))
}

fn make_cache_of_root() -> io::Result<()> {
    fs::create_dir_all(CACHE_OF_ROOT)?;
    // Programs that another user put there would run as Postgres' user.
    let found = fs::symlink_metadata(CACHE_OF_ROOT)?;
    if !found.is_dir() || found.uid() != 0 {
        return Err(io::Error::other("it is not a folder of root's"));
    }
    fs::set_permissions(CACHE_OF_ROOT, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_poms() {
        let pom = include_str!("../postgres-pom.xml");
        let version = NAME.strip_prefix("Postgres ").unwrap();
        assert!(version.starts_with(&format!("{MAJOR_VERSION}.")), "{version}");
        assert_eq!(pom.matches(&format!("<version>{version}.0</version>")).count(), 3);
    }
}
