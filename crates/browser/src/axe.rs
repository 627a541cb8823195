//! Runs axe-core, which checks accessibility.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use fantoccini::Client;
use serde_json::Value;

/// The script, which npm installs if it is missing.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/web");
    let script = web.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&web);
        let installed = npm.output().is_ok_and(|it| it.status.success());
        assert!(
            installed,
            "axe-core is missing: run `npm ci --ignore-scripts` in {}",
            web.display()
        );
    }
    std::fs::read_to_string(script).unwrap()
});

/// Fails if the page violates a rule of WCAG 2.2 A or AA, or a best practice.
pub(crate) async fn check(client: &Client, what: &str) {
    client.execute(&SCRIPT, Vec::new()).await.unwrap();
    let run = "const done = arguments[arguments.length - 1];
        axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then(done)";
    let result = client.execute_async(run, Vec::new()).await.unwrap();
    let violations = result["violations"].as_array().unwrap();
    let found: Vec<_> = violations.iter().map(sentence).collect();
    assert!(found.is_empty(), "axe in {what}: {found:#?}");
    assert!(!result["passes"].as_array().unwrap().is_empty(), "{what}: axe has checked nothing");
}

fn sentence(violation: &Value) -> String {
    let nodes = violation["nodes"].as_array().unwrap();
    let nodes: Vec<_> =
        nodes.iter().map(|it| format!("{} {}", it["html"], it["failureSummary"])).collect();
    format!("{}: {}", violation["help"], nodes.join("; "))
}
