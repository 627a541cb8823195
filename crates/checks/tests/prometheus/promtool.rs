//! Runs Prometheus' own checks, if `promtool` is installed; CI installs it.

use std::process::Command;

use crate::files::path;

#[test]
fn promtool_passes_the_rules_and_their_tests() {
    if Command::new("promtool").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has no promtool: .ci/run installs it");
        eprintln!("promtool is not installed (Debian: prometheus); the rules were not tested");
        return;
    }
    let run = |arguments: &[&str]| {
        let folder = path("deploy/prometheus");
        let output = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
    };
    run(&["check", "config", "prometheus.yml"]);
    run(&["test", "rules", "tests/lag.yml", "tests/services.yml", "tests/slo.yml"]);
}
