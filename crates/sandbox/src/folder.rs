use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::unistd::geteuid;

use crate::{Error, error::OperationContext};

/// A server's folder.
#[derive(Debug)]
pub(crate) enum Folder {
    Kept(PathBuf),
    Temporary(TempFolder),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => &folder.path,
        }
    }

    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }
}

/// A folder that is removed on drop. If its process was killed, the next call for the same place
/// and prefix removes it: a lock in the folder, which ends with its process, shows that it is
/// abandoned.
#[derive(Debug)]
pub(crate) struct TempFolder {
    pub(crate) path: PathBuf,
    _lock: File,
}

const LOCK: &str = ".owner";

impl TempFolder {
    pub(crate) fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        sweep(parent, prefix);
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        // The user of Postgres has to pass through it, regardless of the umask.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        // Locked before it has the name that a sweep looks for.
        let unnamed = folder.path().join(".owner.new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { path: folder.keep(), _lock: lock })
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A process that was just killed may still write a file.
        for _ in 0..40 {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(25));
                }
                _ => return,
            }
        }
    }
}

fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        // Another user may have put a pipe into a folder of such a name, and opening it would wait.
        let is_own = entry.metadata().is_ok_and(|it| it.uid() == geteuid().as_raw());
        let is_ours = is_own && entry.file_name().to_str().is_some_and(|it| it.starts_with(prefix));
        if is_ours && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Creates the folder `target` completely or not at all, even if it is interrupted or done
/// concurrently: `make` creates a path next to it, which is then renamed.
pub(crate) async fn make_whole<F, Fut>(target: &Path, make: F) -> Result<(), Error>
where
    F: FnOnce(PathBuf) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    if target.exists() {
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
    let beside = TempFolder::new(parent, &format!(".{name}."))
        .doing(|| format!("make a folder in {}", parent.display()))?;
    let new = beside.path.join("new");
    make(new.clone()).await?;
    match fs::rename(&new, target) {
        // Another process was faster; its folder is equivalent.
        Err(_) if target.exists() => Ok(()),
        renamed => renamed.doing(|| format!("make {}", target.display())),
    }
}

/// Returns a short name for any text, which is the same on every machine and in every version
/// (FNV-1a).
pub(crate) fn fingerprint(text: &[u8]) -> String {
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
