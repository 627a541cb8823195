//! Validates the AsyncAPI document with `@asyncapi/parser`, the reference implementation.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{asyncapi, services};

/// Returns the folder of the validator. Installs it with npm if it is missing.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("asyncapi");
    if !folder.join("node_modules/@asyncapi/parser/package.json").is_file() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
        let installed = npm.output().is_ok_and(|it| it.status.success());
        let folder = folder.display();
        assert!(
            installed,
            "@asyncapi/parser is missing: run `npm ci --ignore-scripts` in {folder}"
        );
    }
    folder
}

fn validate(document: &serde_json::Value) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    let mut node = Command::new("node");
    node.arg("validate.mjs").arg(file.path()).current_dir(folder());
    node.output().unwrap()
}

#[tokio::test]
async fn the_reference_parser_finds_nothing_in_the_document() {
    let mut document = asyncapi::document(&services::all());
    let found = validate(&document);
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));

    document["operations"]["order.send.order.created"]["action"] = "whisper".into();
    assert!(!validate(&document).status.success(), "the parser accepts an invalid document");
}
