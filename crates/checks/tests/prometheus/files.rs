//! Reads the files of `deploy/` and `docs/`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A rule of `rules.yml`, which has each key on a separate line.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleText {
    /// `None` for a recording rule.
    pub(crate) alert: Option<String>,
    pub(crate) record: Option<String>,
    pub(crate) expr: String,
    pub(crate) holds_for: String,
    pub(crate) keeps_firing_for: String,
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) runbook_url: String,
}

/// Returns all rules.
pub(crate) fn rules() -> Vec<RuleText> {
    let mut rules: Vec<RuleText> = Vec::new();
    for line in read("deploy/prometheus/rules.yml").lines().map(str::trim) {
        let (line, is_first) = line.strip_prefix("- ").map_or((line, false), |line| (line, true));
        let Some((key, value)) = line.split_once(": ") else { continue };
        let value = value.trim_matches(['\'', '"']).to_owned();
        if is_first && matches!(key, "alert" | "record") {
            rules.push(RuleText::default());
        }
        let Some(rule) = rules.last_mut() else { continue };
        match key {
            "alert" => rule.alert = Some(value),
            "record" => rule.record = Some(value),
            "expr" => rule.expr = value,
            "for" => rule.holds_for = value,
            "keep_firing_for" => rule.keeps_firing_for = value,
            "summary" => rule.summary = value,
            "description" => rule.description = value,
            "runbook_url" => rule.runbook_url = value,
            _ => {}
        }
    }
    assert!(rules.len() > 12 && rules.iter().all(|it| !it.expr.is_empty()), "{rules:?}");
    rules
}

/// Returns the expressions of the dashboard.
pub(crate) fn dashboard() -> Vec<String> {
    let document = read("deploy/grafana/dashboards/orderflow.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    let panels = document["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets.map(|it| it["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() > 8, "{expressions:?}");
    expressions
}
