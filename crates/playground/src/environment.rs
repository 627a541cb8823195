//! The part of the caller's environment that a service inherits.

use std::{env, ffi::OsStr, process::Command};

/// Variables that any program needs. All others are set explicitly: variables of the caller for
/// another system (`KAFKA_TOPIC_PREFIX`, `DATABASE_CONNECTIONS`, `SUBSCRIBE`, ..) must not affect
/// this one.
const INHERITED: [&str; 9] =
    ["HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "RUST_BACKTRACE", "TMPDIR", "TZ", "USER"];

/// Removes the variables from the command's environment that a service must not inherit. Variables
/// are removed by name, since [`Process::spawn`](sandbox::Process::spawn) ignores `env_clear`.
pub(crate) fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| !is_inherited(name)) {
        command.env_remove(name);
    }
}

fn is_inherited(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| INHERITED.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_inherits_what_a_program_needs_and_nothing_else() {
        // Cargo sets CARGO_PKG_NAME for each test.
        let mut command = Command::new("env");
        scrub(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let names = output.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
        let names: Vec<_> = names.collect();
        assert!(names.contains(&"PATH"), "{names:?}");
        assert!(names.iter().all(|name| INHERITED.contains(name)), "{names:?}");
    }
}
