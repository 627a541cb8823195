//! Records the operations that tests have called in files, since tests run in many processes.

use std::path::PathBuf;

/// Returns the folder in which called operations are recorded, or `None` if this is not a program
/// that Cargo built.
pub fn folder() -> Option<PathBuf> {
    // target/debug/deps/<test>
    let program = std::env::current_exe().ok()?;
    Some(program.ancestors().nth(3)?.join("contract"))
}

/// Returns the name of the file of an operation, such as `GET _orders_{id}`.
pub fn marker(method: &str, path: &str) -> String {
    format!("{} {}", method.to_uppercase(), path.replace('/', "_"))
}

/// Records that an operation was called. Does nothing without a folder; the operation is then
/// listed as uncalled.
pub(crate) fn record(title: &str, method: &str, path: &str) {
    let Some(folder) = folder() else { return };
    let folder = folder.join(title);
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join(marker(method, path)), ""));
    if let Err(error) = written {
        eprintln!("{method} {path} was called, and that could not be recorded: {error}");
    }
}
