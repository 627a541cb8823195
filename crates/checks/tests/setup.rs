//! Runs `deploy/setup` on a machine that lacks everything: its `PATH` has only the programs of a
//! bare system.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BARE: [&str; 14] = [
    "bash", "awk", "cat", "cut", "dirname", "env", "grep", "head", "id", "sed", "sort", "tr",
    "uname", "sh",
];

/// A folder of programs, which is the whole `PATH`.
struct Bare(tempfile::TempDir);

impl Bare {
    fn new() -> Self {
        let bare = Self(tempfile::tempdir().unwrap());
        for program in BARE {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            symlink(found.iter().find(|it| it.exists()).unwrap(), bare.path(program)).unwrap();
        }
        bare.has("cargo", "echo 'cargo 1.99.0 (of no account)'");
        bare
    }

    fn path(&self, program: &str) -> PathBuf {
        self.0.path().join(program)
    }

    /// Adds a program that records each run.
    fn has(&self, program: &str, does: &str) {
        let (path, ran) = (self.path(program), self.path("ran"));
        let script = format!("#!/bin/sh\necho {program} \"$@\" >>'{}'\n{does}\n", ran.display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.path("ran")).unwrap_or_default()
    }

    fn setup(&self, argument: &str, yes: bool) -> (Output, String) {
        self.setup_with(argument, yes.then_some(("YES", "1")))
    }

    fn setup_with(&self, argument: &str, variable: Option<(&str, &str)>) -> (Output, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/setup");
        let mut command = Command::new(script);
        command.arg(argument).env_clear().env("PATH", self.0.path()).env("HOME", self.0.path());
        command.env("GOAL", "demo").envs(variable).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = [&*output.stdout, &*output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output, text)
    }
}

#[test]
fn without_a_terminal_it_says_what_to_run_and_installs_nothing() {
    let bare = Bare::new();
    bare.has("apt-get", "");
    let (output, text) = bare.setup("run", false);
    assert!(!output.status.success(), "{text}");
    for part in ["gcc libc6-dev", "openjdk-17-jre-headless", "maven", "YES=1 make demo"] {
        assert!(text.contains(part), "{part} of {text}");
    }
    assert!(!bare.ran().contains("apt-get"), "{}", bare.ran());
}

#[test]
fn with_yes_it_installs_and_sees_whether_that_helped() {
    let bare = Bare::new();
    bare.has("apt-get", "");
    bare.has("sudo", "[ \"$1\" = -n ] && shift; exec \"$@\"");
    let (output, text) = bare.setup("run", true);
    // This `apt-get` does nothing.
    assert!(!output.status.success() && text.contains("Still missing"), "{text}");
    let ran = bare.ran();
    assert!(ran.contains("apt-get install -y -q --no-install-recommends"), "{ran}");
    assert!(ran.contains("maven"), "{ran}");
}

#[test]
fn postgres_is_installed_only_where_it_cant_be_fetched() {
    let bare = Bare::new();
    bare.has("apt-get", "");
    // Treats the machine as one without an installed Postgres.
    let fetched = Some(("PG_BIN", "fetch"));
    fs::remove_file(bare.path("uname")).unwrap();
    bare.has("uname", "echo Linux x86_64");
    // musl's getconf does not know glibc's variable.
    for (getconf, installed) in [("echo glibc 2.36", false), ("exit 1", true)] {
        bare.has("getconf", getconf);
        let (output, text) = bare.setup_with("run", fetched);
        assert!(!output.status.success() && text.contains("maven"), "{text}");
        assert_eq!(text.contains("postgresql"), installed, "{getconf}: {text}");
    }
    bare.has("getconf", "echo glibc 2.36");
    let (_, text) = bare.setup_with("doctor", fetched);
    assert!(text.contains("PostgreSQL: Maven fetches it"), "{text}");
}

#[test]
fn a_package_that_the_system_names_otherwise_is_installed_by_its_name_there() {
    let bare = Bare::new();
    bare.has("apt-get", "");
    bare.has("sudo", "[ \"$1\" = -n ] && shift; exec \"$@\"");
    // Ubuntu's lists, which are fetched by the first `apt-get update`.
    let ubuntu = "case $2 in chromium | chromium-driver | openjdk-17-jre-headless) exit 100; esac";
    for lists_are_there in [true, false] {
        fs::remove_file(bare.path("ran")).ok();
        let fetched =
            format!("grep -q 'apt-get update' '{}' || exit 100", bare.path("ran").display());
        let ready = if lists_are_there { "" } else { &fetched };
        bare.has("apt-cache", &format!("{ready}\n{ubuntu}"));
        bare.setup("test", true);
        let ran = bare.ran();
        let install = ran.lines().find(|it| it.starts_with("apt-get install")).unwrap();
        for package in ["chromium-browser", "chromium-chromedriver", "default-jre-headless"] {
            assert!(install.contains(package), "{package} of {install}");
        }
        assert!(!install.contains("chromium-driver"), "{install}");
    }
}

#[test]
fn elsewhere_the_doctor_has_the_systems_own_command() {
    let bare = Bare::new();
    for (manager, command) in [("dnf", "dnf install -y"), ("pacman", "pacman -S --needed")] {
        bare.has(manager, "");
        let (output, text) = bare.setup("doctor", true);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(command) && text.contains("maven"), "{text}");
        fs::remove_file(bare.path(manager)).unwrap();
    }
    bare.has("uname-of-a-mac", "echo Darwin");
    fs::rename(bare.path("uname-of-a-mac"), bare.path("uname")).unwrap();
    let (_, text) = bare.setup("doctor", false);
    assert!(
        text.contains("xcode-select --install") && text.contains("    brew install curl"),
        "{text}"
    );
    assert!(!bare.ran().contains("install"), "the doctor installs nothing: {}", bare.ran());
}

#[test]
fn a_rust_that_is_too_old_is_named() {
    let bare = Bare::new();
    bare.has("apt-get", "");
    bare.has("cargo", "echo 'cargo 1.63.0'");
    let (output, text) = bare.setup("run", true);
    assert!(!output.status.success() && text.contains("found 1.63"), "{text}");
    assert!(!bare.ran().contains("apt-get"), "{}", bare.ran());
}
