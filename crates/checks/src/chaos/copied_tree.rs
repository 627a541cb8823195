//! Copies of the sources, and their builds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Output};

use super::bugs::Test;

/// Why a copy of the sources could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("the bug {bug}: its patch does not apply\n{reason}")]
    NotApplied { bug: String, reason: String },
    #[error("the bug {bug}: what shows it does not build with its patch\n{reason}")]
    NotBuilt { bug: String, reason: String },
    #[error(
        "the commit {commit} is not in this repository: a shallow clone has it after `git fetch --unshallow`\n{reason}"
    )]
    NoCommit { commit: &'static str, reason: String },
    #[error("the release {commit} does not build\n{reason}")]
    ReleaseNotBuilt { commit: &'static str, reason: String },
    #[error("{program} failed\n{reason}")]
    Command { program: &'static str, reason: String },
    #[error("can't {doing}")]
    Io { doing: String, source: io::Error },
}

/// Adds the attempted operation to an I/O error.
pub(crate) trait OperationContext<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T, TreeError>;
}

impl<T> OperationContext<T> for io::Result<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T, TreeError> {
        self.map_err(|source| TreeError::Io { doing: format!("{what} {}", path.display()), source })
    }
}

/// A copy of the sources and the folder of its builds. Both are kept between builds, so that only
/// changed files are rebuilt.
#[derive(Debug)]
pub(crate) struct CopiedTree {
    pub(crate) copy: PathBuf,
    build: PathBuf,
}

impl CopiedTree {
    /// Creates a tree whose copy and builds are in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self, TreeError> {
        let folder = absolute(folder).doing("find", folder)?;
        Ok(Self { copy: folder.join("tree"), build: folder.join("build") })
    }

    /// Returns the folder of the programs, once [`CopiedTree::build`] has succeeded.
    pub(crate) fn programs(&self) -> PathBuf {
        self.build.join("debug")
    }

    /// Copies built dependencies from another build, unless there are some already: they are the
    /// same.
    pub(crate) fn reuse_dependencies(&self, programs: &Path) -> Result<(), TreeError> {
        let ours = self.programs();
        if ours.exists() || !programs.join("deps").is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&ours).doing("make", &ours)?;
        // `cp -a` keeps modification times, by which cargo decides whether an artifact is fresh.
        let mut copy = Command::new("cp");
        copy.arg("-a").args([".fingerprint", "build", "deps"].map(|part| programs.join(part)));
        let copied = run("cp", copy.arg(&ours))?;
        succeeded(&copied).map_err(|reason| TreeError::Command { program: "cp", reason })
    }

    /// Builds packages with failure points. Fails with the output of cargo.
    pub(crate) fn build(&self, packages: &[&str]) -> Result<(), String> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.build);
        cargo.args(["build", "--quiet", "--features", "orderflow-sabotage/on"]);
        cargo.args(packages.iter().flat_map(|package| ["-p", package]));
        succeeded(&run("cargo", &mut cargo).map_err(|error| error.to_string())?)
    }

    /// Returns the command that builds and runs the target of a test.
    pub(crate) fn test(&self, test: &Test) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.build);
        cargo.args(["test", "-p", test.package]);
        match test.target {
            "lib" => cargo.arg("--lib"),
            target => cargo.args(["--test", target]),
        };
        cargo
    }
}

pub(crate) fn run(program: &str, command: &mut Command) -> Result<Output, TreeError> {
    command.output().doing("start", Path::new(program))
}

/// Fails with the command's standard error if it did not succeed.
pub(crate) fn succeeded(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}
