//! A copy of the work tree that a bug is patched into, with a separate build.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox::{Servers, testing};
use tokio::time::timeout;

use super::bugs::Test;
use super::copied_tree::{CopiedTree, OperationContext, TreeError, run, succeeded};

/// Packages to build.
const PACKAGES: [&str; 5] = [
    "orderflow-order",
    "orderflow-billing",
    "orderflow-notification",
    "orderflow-analytics",
    "orderflow-sabotage",
];

/// Time limit of a test, several times what the slowest one takes in vain.
const TEST_LIMIT: Duration = Duration::from_mins(5);
/// Maximum number of characters of a panic's message.
const LONGEST_MESSAGE: usize = 120;

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TestRun {
    /// It failed, with the beginning of its panic's first line.
    Failed(String),
    Passed,
    /// The test does not exist, or its process did not report a result. Contains the reason.
    Unclear(String),
}

/// A copy of the work tree. It is kept between bugs, so that only the files of a patch are rebuilt.
#[derive(Debug)]
pub(crate) struct PatchedTree {
    root: PathBuf,
    tree: CopiedTree,
}

impl PatchedTree {
    /// Creates a tree from the work tree at `root`. Copy and builds are in `folder`.
    pub(crate) fn new(root: &Path, folder: &Path) -> Result<Self, TreeError> {
        let root = absolute(root).doing("find", root)?;
        Ok(Self { root, tree: CopiedTree::new(folder)? })
    }

    /// Returns the folder of the patches.
    pub(crate) fn patches(root: &Path) -> PathBuf {
        root.join("crates/checks/bugs")
    }

    /// Returns the folder of the programs, once [`PatchedTree::build`] has succeeded.
    pub(crate) fn programs(&self) -> PathBuf {
        self.tree.programs()
    }

    /// Copies built dependencies from another build, unless there are some already: they are the
    /// same.
    pub(crate) fn reuse_dependencies(&self, programs: &Path) -> Result<(), TreeError> {
        self.tree.reuse_dependencies(programs)
    }

    /// Makes the copy equal to the work tree except for a bug, and builds the services with failure
    /// points.
    pub(crate) fn build(&self, bug: &str) -> Result<(), TreeError> {
        self.seed(bug)?;
        self.tree
            .build(&PACKAGES)
            .map_err(|reason| TreeError::NotBuilt { bug: bug.to_owned(), reason })
    }

    /// Makes the copy equal to the work tree except for a bug, and builds a test.
    pub(crate) fn build_test(&self, bug: &str, test: &Test) -> Result<(), TreeError> {
        self.seed(bug)?;
        let mut cargo = self.tree.test(test);
        let built = run("cargo", cargo.args(["--quiet", "--no-run"]))?;
        succeeded(&built).map_err(|reason| TreeError::NotBuilt { bug: bug.to_owned(), reason })
    }

    /// Runs the test that [`PatchedTree::build_test`] has built, for at most [`TEST_LIMIT`].
    pub(crate) async fn run_test(
        &self,
        test: &Test,
        servers: &Servers,
    ) -> Result<TestRun, TreeError> {
        let mut cargo = tokio::process::Command::from(self.tree.test(test));
        cargo.args(["--", test.name]).env("RUST_BACKTRACE", "0");
        cargo.env(testing::POSTGRES_URL, servers.postgres.url());
        cargo.env(testing::KAFKA_BROKERS, servers.kafka.brokers());
        // A group of its own, so that the test ends with cargo.
        cargo.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = cargo.spawn().doing("start", Path::new("cargo"))?;
        let group = running.id().map(|id| format!("-{id}"));
        let Ok(output) = timeout(TEST_LIMIT, running.wait_with_output()).await else {
            if let Some(group) = group {
                run("kill", Command::new("kill").args(["-KILL", "--", &group]))?;
            }
            return Ok(TestRun::Unclear(format!("it did not end within {TEST_LIMIT:?}")));
        };
        let output = output.doing("wait for", Path::new("cargo"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        let why = format!("{}: {last}", output.status);
        Ok(outcome(&String::from_utf8_lossy(&output.stdout), test.name, why))
    }

    /// Makes the copy equal to the work tree except for a bug.
    fn seed(&self, bug: &str) -> Result<(), TreeError> {
        self.sync()?;
        let patch = Self::patches(&self.root).join(format!("{bug}.patch"));
        self.apply(&patch).map_err(|reason| TreeError::NotApplied { bug: bug.to_owned(), reason })
    }

    /// Copies changed files from the work tree, which undoes the last patch, and removes files that
    /// no longer exist there.
    fn sync(&self) -> Result<(), TreeError> {
        let files = self.files_of_work_tree()?;
        for file in &files {
            let (from, to) = (self.root.join(file), self.tree.copy.join(file));
            let wanted = fs::read(&from).doing("read", &from)?;
            // An unchanged file keeps its modification time, since cargo rebuilds what is newer
            // than its last build.
            if fs::read(&to).is_ok_and(|current| current == wanted) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.tree.copy);
            fs::create_dir_all(folder).doing("make", folder)?;
            fs::copy(&from, &to).doing("write", &to)?;
        }
        self.remove_all_but(&files, &self.tree.copy)
    }

    /// Returns tracked files and new ones that are not ignored, relative to the root.
    fn files_of_work_tree(&self) -> Result<HashSet<PathBuf>, TreeError> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-co", "--exclude-standard", "-z"]);
        let listed = run("git", &mut git)?;
        succeeded(&listed).map_err(|reason| TreeError::Command { program: "git", reason })?;
        let files = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let files = files.map(|name| PathBuf::from(OsStr::from_bytes(name)));
        // A deleted file is tracked until the deletion is committed.
        Ok(files.filter(|file| self.root.join(file).is_file()).collect())
    }

    fn remove_all_but(&self, wanted: &HashSet<PathBuf>, folder: &Path) -> Result<(), TreeError> {
        for entry in fs::read_dir(folder).doing("read", folder)? {
            let path = entry.doing("read", folder)?.path();
            if path.is_dir() {
                self.remove_all_but(wanted, &path)?;
            } else if path.strip_prefix(&self.tree.copy).is_ok_and(|file| !wanted.contains(file)) {
                fs::remove_file(&path).doing("remove", &path)?;
            }
        }
        Ok(())
    }

    fn apply(&self, patch: &Path) -> Result<(), String> {
        let mut git = Command::new("git");
        // Hides the surrounding repository: within one, git ignores changes of a patch above the
        // current folder.
        git.current_dir(&self.tree.copy)
            .env("GIT_CEILING_DIRECTORIES", self.tree.copy.parent().unwrap_or(&self.tree.copy))
            .arg("apply")
            .arg(patch);
        succeeded(&run("git", &mut git).map_err(|error| error.to_string())?)
    }
}

/// Reads the outcome of a test from the output of its target. `why` is the reason if there is none.
fn outcome(output: &str, name: &str, why: String) -> TestRun {
    let ended = |line: &str| {
        let (path, ended) = line.strip_prefix("test ")?.split_once(" ... ")?;
        (path.rsplit("::").next() == Some(name)).then(|| ended.to_owned())
    };
    match output.lines().find_map(ended).as_deref() {
        Some("ok") => TestRun::Passed,
        Some("FAILED") => TestRun::Failed(panic_message(output, name)),
        _ => TestRun::Unclear(why),
    }
}

/// Returns the beginning of the message with which a test's thread panicked, or another thread if
/// it did not.
fn panic_message(output: &str, name: &str) -> String {
    let panicked = |line: &&str| line.contains("panicked at");
    let own = |line: &&str| panicked(line) && line.contains(&format!("{name}'"));
    // The message follows the line that names the thread and the place.
    let after = |found: &dyn Fn(&&str) -> bool| output.lines().skip_while(|it| !found(it)).nth(1);
    let message = after(&own).or_else(|| after(&panicked)).unwrap_or_default();
    message.chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_that_of_the_test_with_exactly_this_name() {
        let output = "test late::it_works_twice ... ok\ntest late::it_works ... FAILED\n\n\
            thread 'late::it_works' panicked at a.rs:1:1:\n2 rows instead of 1\n";
        let of = |name| outcome(output, name, "status 101".to_owned());
        assert_eq!(of("it_works"), TestRun::Failed("2 rows instead of 1".to_owned()));
        assert_eq!(of("it_works_twice"), TestRun::Passed);
        assert_eq!(of("works"), TestRun::Unclear("status 101".to_owned()));
    }

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
        let untouched = fs::metadata(tree.tree.copy.join("c.txt")).unwrap().modified().unwrap();
        tree.apply(&PatchedTree::patches(&tree.root).join("bug.patch")).unwrap();
        assert_eq!(fs::read_to_string(tree.tree.copy.join("a/b.txt")).unwrap(), "wrong\n");
        assert_eq!(fs::read_to_string(folder.path().join("a/b.txt")).unwrap(), "right\n");
        tree.sync().unwrap();
        assert_eq!(fs::read_to_string(tree.tree.copy.join("a/b.txt")).unwrap(), "right\n");
        let after = fs::metadata(tree.tree.copy.join("c.txt")).unwrap().modified().unwrap();
        assert_eq!(after, untouched, "only what differs is written");
    }

    #[test]
    fn what_is_gone_from_the_work_tree_goes_from_the_copy() {
        let (folder, tree) = tree();
        tree.sync().unwrap();
        fs::remove_file(folder.path().join("c.txt")).unwrap();
        tree.sync().unwrap();
        assert!(!tree.tree.copy.join("c.txt").exists() && tree.tree.copy.join("a/b.txt").exists());
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
