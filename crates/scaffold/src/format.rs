use std::io::Write;
use std::process::{Command, Stdio};

/// Formats Rust code with rustfmt. Returns it unchanged if rustfmt is not installed; `make lint`
/// reports that.
pub(crate) fn formatted(code: String) -> String {
    rustfmt(&code).unwrap_or(code)
}

/// Returns `None` if rustfmt can't be run or rejects the code.
fn rustfmt(code: &str) -> Option<String> {
    // With the settings of rustfmt.toml, in any current folder.
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config", "use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(code.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let is_whole = output.status.success() && !output.stdout.is_empty();
    is_whole.then(|| String::from_utf8(output.stdout).ok()).flatten()
}
