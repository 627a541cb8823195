use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns the folder of the contracts.
pub(crate) fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// Compares a document with its committed file, or writes the file if `UPDATE_SCHEMAS` is set.
#[track_caller]
pub(crate) fn compare(name: &str, document: &Value) {
    let path = schemas().join(name);
    let text = serde_json::to_string_pretty(document).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).position(|(left, right)| left != right);
    assert!(
        committed == text,
        "schemas/{name} differs from the code (from line {}); run `make schemas`, and review the difference",
        differs.unwrap_or_else(|| committed.lines().count().min(text.lines().count())) + 1
    );
}
