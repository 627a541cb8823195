//! A small file system for a database, which can be filled and emptied.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Error;

/// Several times the size of billing's database after a minute of load.
const SIZE: &str = "size=64m,mode=0711";
/// Start of the folder's name, which ends with the id of the process that mounted it.
const PREFIX: &str = "orderflow-disk-";
/// Size of the writes that fill it, in bytes.
const BLOCK: usize = 8 * 1024;

/// A mounted tmpfs. It is unmounted when dropped, even while a server uses it.
///
/// The database is in a tablespace on it. The server's write-ahead log is not, since a server that
/// can't write its log stops.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk next to the server's folder, and moves a database without connections to it.
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
        // Created before mounting, so that the folder is removed if that fails.
        let disk = Self { folder };
        let mut mount = Command::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", SIZE, "orderflow"]).arg(&disk.folder).output()?;
        if !mounted.status.success() {
            let output = String::from_utf8_lossy(&mounted.stderr);
            let reason = output.lines().next().unwrap_or_default();
            return Err(format!(
                "needs root: this fault mounts a tmpfs for billing's database, which was refused ({reason})"
            )
            .into());
        }
        fs::set_permissions(&disk.folder, Permissions::from_mode(0o711))?;
        Ok(disk)
    }

    /// Writes a file until no space is left.
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

    /// Removes the file.
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

/// Unmounts lazily: the mount disappears at once, and its memory when the last process has closed
/// its files.
fn remove(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).output();
    let _ = fs::remove_dir(folder);
}

/// Unmounts the disks of killed suites, which could not do so themselves.
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
