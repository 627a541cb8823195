//! A small file system of its own for a database, which can be filled and emptied.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Error;

/// Several times what billing's database takes under load for a minute.
const SIZE: &str = "size=64m,mode=0711";
/// The folder's name begins with it, and ends with the process that mounted it.
const PREFIX: &str = "orderflow-disk-";
/// Bytes that are written at a time to fill it.
const BLOCK: usize = 8 * 1024;

/// A mounted tmpfs. Dropped, it is unmounted, also while a server still uses it.
///
/// The database is in a tablespace on it; the server's write-ahead log is not, since a server that can't write its log
/// stops.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one beside the server's folder, and moves a database to it that nobody is connected to.
    pub(crate) async fn holding(server: &Postgres, database: &str) -> Result<Self, Error> {
        let parent = server.folder().parent().ok_or("Postgres has no folder")?;
        remove_abandoned(parent);
        let disk = Self::mount(parent.join(format!("{PREFIX}{}", std::process::id())))?;
        let tablespace = disk.folder.join("tablespace");
        let owner = fs::metadata(server.folder().join("data"))?;
        fs::create_dir(&tablespace)?;
        chown(&tablespace, Some(owner.uid()), Some(owner.gid()))?;
        let mut admin = PgConnection::connect(&server.admin_url("postgres")).await?;
        let location = tablespace.display();
        for statement in [
            format!("create tablespace small_disk location '{location}'"),
            format!("alter database {database} set tablespace small_disk"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await?;
        }
        admin.close().await?;
        Ok(disk)
    }

    fn mount(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder)?;
        // Before it is tried, so that the folder is removed if that fails.
        let disk = Self { folder };
        let mut mount = Command::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", SIZE, "orderflow"]).arg(&disk.folder).output()?;
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr);
            let reason = said.lines().next().unwrap_or_default();
            return Err(format!(
                "needs root: this fault mounts a tmpfs for billing's database, which was refused ({reason})"
            )
            .into());
        }
        fs::set_permissions(&disk.folder, Permissions::from_mode(0o711))?;
        Ok(disk)
    }

    /// Writes a file until there is no room left.
    pub(crate) fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        let block = [0; BLOCK];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes that file.
    pub(crate) fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Lazily: the mount goes at once, and its memory when the last process has closed its files.
fn remove(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).output();
    let _ = fs::remove_dir(folder);
}

/// A suite that was killed could not unmount its own.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove(&entry.path());
        }
    }
}
