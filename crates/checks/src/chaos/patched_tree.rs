//! A copy of the work tree that a bug is patched into, and that is built apart from it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Output};

/// The packages that are built.
const PACKAGES: [&str; 5] = [
    "orderflow-order",
    "orderflow-billing",
    "orderflow-notification",
    "orderflow-analytics",
    "orderflow-sabotage",
];

/// Why the services could not be built with a bug.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("the bug {bug}: its patch does not apply\n{reason}")]
    NotApplied { bug: String, reason: String },
    #[error("the bug {bug}: the services do not build with its patch\n{reason}")]
    NotBuilt { bug: String, reason: String },
    #[error("{program} failed\n{reason}")]
    Command { program: &'static str, reason: String },
    #[error("can't {doing}")]
    Io { doing: String, source: io::Error },
}

/// Adds to an I/O error what was being done.
trait Doing<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T, PatchError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T, PatchError> {
        self.map_err(|source| PatchError::Io {
            doing: format!("{what} {}", path.display()),
            source,
        })
    }
}

/// The copy, and the folder of its builds. Both are kept from one bug to the next, so that only what a patch touches is
/// built anew.
#[derive(Debug)]
pub(crate) struct PatchedTree {
    root: PathBuf,
    copy: PathBuf,
    build: PathBuf,
}

impl PatchedTree {
    /// `root` is the top of the work tree; copy and builds go into `folder`.
    pub(crate) fn new(root: &Path, folder: &Path) -> Result<Self, PatchError> {
        let absolute = |path: &Path| absolute(path).doing("find", path);
        let folder = absolute(folder)?;
        Ok(Self { root: absolute(root)?, copy: folder.join("tree"), build: folder.join("build") })
    }

    /// The folder of the patches.
    pub(crate) fn patches(root: &Path) -> PathBuf {
        root.join("crates/checks/bugs")
    }

    /// Where the programs are when [`PatchedTree::build`] has succeeded.
    pub(crate) fn programs(&self) -> PathBuf {
        self.build.join("debug")
    }

    /// Starts the first build from what was built elsewhere: the dependencies are the same.
    pub(crate) fn reuse_dependencies(&self, programs: &Path) -> Result<(), PatchError> {
        let ours = self.programs();
        if ours.exists() || !programs.join("deps").is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&ours).doing("make", &ours)?;
        // Not by fs::copy: cargo takes an artifact for fresh by its time.
        let mut copy = Command::new("cp");
        copy.arg("-a").args([".fingerprint", "build", "deps"].map(|part| programs.join(part)));
        let copied = run("cp", copy.arg(&ours))?;
        succeeded(&copied).map_err(|reason| PatchError::Command { program: "cp", reason })
    }

    /// Makes the copy the same as the work tree, but for a bug, and builds the services with failure points.
    pub(crate) fn build(&self, bug: &str) -> Result<(), PatchError> {
        self.sync()?;
        let patch = Self::patches(&self.root).join(format!("{bug}.patch"));
        self.apply(&patch)
            .map_err(|reason| PatchError::NotApplied { bug: bug.to_owned(), reason })?;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.build);
        cargo.args(["build", "--quiet", "--features", "orderflow-sabotage/on"]);
        cargo.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
        succeeded(&run("cargo", &mut cargo)?)
            .map_err(|reason| PatchError::NotBuilt { bug: bug.to_owned(), reason })
    }

    /// Copies what differs from the work tree, which undoes the last patch, and removes what is not there any more.
    fn sync(&self) -> Result<(), PatchError> {
        let files = self.files_of_work_tree()?;
        for file in &files {
            let (from, to) = (self.root.join(file), self.copy.join(file));
            let wanted = fs::read(&from).doing("read", &from)?;
            // The time of a file that stays as it is stays too: cargo builds what is newer than its last build.
            if fs::read(&to).is_ok_and(|current| current == wanted) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.copy);
            fs::create_dir_all(folder).doing("make", folder)?;
            fs::copy(&from, &to).doing("write", &to)?;
        }
        self.remove_all_but(&files, &self.copy)
    }

    /// Tracked files and new ones that are not ignored, relative to the root.
    fn files_of_work_tree(&self) -> Result<HashSet<PathBuf>, PatchError> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-co", "--exclude-standard", "-z"]);
        let listed = run("git", &mut git)?;
        succeeded(&listed).map_err(|reason| PatchError::Command { program: "git", reason })?;
        let files = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let files = files.map(|name| PathBuf::from(OsStr::from_bytes(name)));
        // One that is deleted and not committed is still tracked.
        Ok(files.filter(|file| self.root.join(file).is_file()).collect())
    }

    fn remove_all_but(&self, wanted: &HashSet<PathBuf>, folder: &Path) -> Result<(), PatchError> {
        for entry in fs::read_dir(folder).doing("read", folder)? {
            let path = entry.doing("read", folder)?.path();
            if path.is_dir() {
                self.remove_all_but(wanted, &path)?;
            } else if path.strip_prefix(&self.copy).is_ok_and(|file| !wanted.contains(file)) {
                fs::remove_file(&path).doing("remove", &path)?;
            }
        }
        Ok(())
    }

    fn apply(&self, patch: &Path) -> Result<(), String> {
        let mut git = Command::new("git");
        // As outside of any repository: within one, git ignores what a patch changes above the current folder.
        git.current_dir(&self.copy)
            .env("GIT_CEILING_DIRECTORIES", self.copy.parent().unwrap_or(&self.copy))
            .arg("apply")
            .arg(patch);
        succeeded(&run("git", &mut git).map_err(|error| error.to_string())?)
    }
}

fn run(program: &str, command: &mut Command) -> Result<Output, PatchError> {
    command.output().doing("start", Path::new(program))
}

/// Fails with what the command wrote to standard error.
fn succeeded(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "What the bug is.\n
diff --git a/a/b.txt b/a/b.txt
--- a/a/b.txt
+++ b/a/b.txt
@@ -1 +1 @@
-right
+wrong
";

    fn tree() -> (tempfile::TempDir, PatchedTree) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/b.txt"), "right\n").unwrap();
        fs::write(root.join("c.txt"), "c\n").unwrap();
        fs::write(root.join(".gitignore"), "/target\n").unwrap();
        let patches = PatchedTree::patches(root);
        fs::create_dir_all(&patches).unwrap();
        fs::write(patches.join("bug.patch"), PATCH).unwrap();
        let init = Command::new("git").current_dir(root).args(["init", "-q"]).status().unwrap();
        assert!(init.success());
        let tree = PatchedTree::new(root, &root.join("target/bugs")).unwrap();
        (folder, tree)
    }

    #[test]
    fn a_patch_changes_the_copy_and_the_next_sync_undoes_it() {
        let (folder, tree) = tree();
        tree.sync().unwrap();
        let untouched = fs::metadata(tree.copy.join("c.txt")).unwrap().modified().unwrap();
        tree.apply(&PatchedTree::patches(&tree.root).join("bug.patch")).unwrap();
        assert_eq!(fs::read_to_string(tree.copy.join("a/b.txt")).unwrap(), "wrong\n");
        assert_eq!(fs::read_to_string(folder.path().join("a/b.txt")).unwrap(), "right\n");
        tree.sync().unwrap();
        assert_eq!(fs::read_to_string(tree.copy.join("a/b.txt")).unwrap(), "right\n");
        let after = fs::metadata(tree.copy.join("c.txt")).unwrap().modified().unwrap();
        assert_eq!(after, untouched, "only what differs is written");
    }

    #[test]
    fn what_is_gone_from_the_work_tree_goes_from_the_copy() {
        let (folder, tree) = tree();
        tree.sync().unwrap();
        fs::remove_file(folder.path().join("c.txt")).unwrap();
        tree.sync().unwrap();
        assert!(!tree.copy.join("c.txt").exists() && tree.copy.join("a/b.txt").exists());
    }

    #[test]
    fn a_patch_that_does_not_apply_is_an_error_that_names_the_bug() {
        let (folder, tree) = tree();
        fs::write(folder.path().join("a/b.txt"), "something else\n").unwrap();
        let error = tree.build("bug").unwrap_err().to_string();
        assert!(error.contains("the bug bug: its patch does not apply"), "{error}");
        assert!(error.contains("a/b.txt"), "{error}");
    }
}
