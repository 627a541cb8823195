//! Every expression names metrics that the programs export.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use chassis::{Config, RunningService};
use reqwest::Client;
use sandbox::testing::{TestSpace, eventually};
use sandbox::{Life, Process};
use serde_json::json;

use crate::files::{dashboard, path, rules};
use crate::promql::metrics;

const PATIENCE: Duration = Duration::from_mins(1);

/// Series of Prometheus itself.
const PROMETHEUS: [&str; 2] = ["up", "ALERTS"];
/// Series that appear only when something happens, so they are looked for in the sources. `defer`
/// exports its counter with the first dropped task, which the rule allows for; the others need a
/// dead letter, and a service with jobs.
const LATER: [(&str, &str, &str); 4] = [
    ("orderflow_failed_jobs", "crates/ops/src/serve/exposition.rs", "\"orderflow_failed_jobs\""),
    ("defer_dropped_total", "crates/defer/src/instruments.rs", "\"defer.dropped\""),
    (
        "orderflow_newest_failure_reason_timestamp_seconds",
        "crates/ops/src/serve/exposition.rs",
        "\"orderflow_newest_failure_reason_timestamp_seconds\"",
    ),
    (
        "orderflow_last_dead_letter_timestamp_seconds",
        "crates/ops/src/serve/exposition.rs",
        "\"orderflow_last_dead_letter_timestamp_seconds\"",
    ),
];

struct System {
    order: RunningService,
    billing: RunningService,
    ops: Process,
    port: u16,
    _logs: tempfile::TempDir,
}

impl System {
    async fn start() -> Self {
        let space = TestSpace::new().await;
        let config =
            |url: &str| Config::for_tests(url, space.kafka_brokers(), space.topic_prefix());
        let order = order::app::build(order::Config::new(config(space.database_url())));
        let order = order.start().await.unwrap();
        let billing = config(&space.database("billing").await);
        let billing = billing::app::build(billing::Config { chassis: billing });
        let billing = billing.start().await.unwrap();
        let (logs, port) = (tempfile::tempdir().unwrap(), sandbox::port::free().unwrap());
        let mut command = Command::new(orderflow());
        let services = format!("order=http://{},billing=http://{}", order.admin, billing.admin);
        command
            .arg("serve")
            .env("CONSOLE_ADDR", format!("127.0.0.1:{port}"))
            .env("ORDERFLOW_SERVICES", services)
            .env("KAFKA_BROKERS", space.kafka_brokers())
            .env("KAFKA_TOPIC_PREFIX", space.topic_prefix())
            .env("OPERATOR_TOKEN", "operator")
            .env_remove("ALERT_WEBHOOK");
        let log = logs.path().join("ops.log");
        let ops = Process::spawn("ops", command, &log, Life::WithParent).unwrap();
        Self { order, billing, ops, port, _logs: logs }
    }

    /// Places an order, so that there are measurements.
    async fn place(&self) {
        let body = json!({
            "customer_email": "ada@example.com", "currency": "EUR", "complete": true,
            "items": [{ "sku": "tea", "quantity": 2, "unit_price": 450 }],
        });
        let url = format!("http://{}/orders", self.order.http);
        let order = Client::new().post(url).bearer_auth("demo-acme").json(&body);
        assert_eq!(order.send().await.unwrap().status(), 201);
    }

    /// Returns the names of all series that are exported.
    async fn exported(&self) -> BTreeSet<String> {
        let ops = format!("127.0.0.1:{}", self.port);
        let ports = [self.order.admin.to_string(), self.billing.admin.to_string(), ops];
        let mut names = BTreeSet::new();
        for port in ports {
            let Ok(answer) = reqwest::get(format!("http://{port}/metrics")).await else { continue };
            let text = answer.text().await.unwrap();
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            names.extend(samples.filter_map(|it| Some(it.split(['{', ' ']).next()?.to_owned())));
        }
        names
    }
}

/// Returns the program, which `make test` has built before.
fn orderflow() -> std::path::PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().nth(2).unwrap().join("orderflow");
    assert!(built.is_file(), "build it first: cargo build -p orderflow-ops");
    built
}

#[tokio::test(flavor = "multi_thread")]
async fn each_expression_names_metrics_that_the_programs_export() {
    let rules = rules();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|it| it.record.clone()).collect();
    let expressions = rules.into_iter().map(|it| it.expr).chain(dashboard());
    let named: BTreeSet<_> = expressions.flat_map(|it| metrics(&it)).collect();
    let later = LATER.map(|(name, _, _)| name);
    let is_expected = |name: &&String| {
        !recorded.contains(*name) && !PROMETHEUS.contains(&&***name) && !later.contains(&&***name)
    };
    let expected: BTreeSet<_> = named.iter().filter(is_expected).cloned().collect();
    for (name, file, text) in LATER {
        assert!(named.contains(name), "{name} is in no expression any more");
        let source = std::fs::read_to_string(path(file)).unwrap();
        assert!(source.contains(text), "{file} has no {text}");
    }

    let mut system = System::start().await;
    system.place().await;
    let missing = std::cell::RefCell::new(expected.clone());
    let all = async || {
        let exported = system.exported().await;
        missing.replace(expected.difference(&exported).cloned().collect());
        missing.borrow().is_empty().then_some(())
    };
    let found = tokio::time::timeout(PATIENCE, eventually("them", 2 * PATIENCE, all)).await;
    assert!(found.is_ok(), "nothing exports {:?}", missing.borrow());
    system.ops.stop(Duration::from_secs(5)).await;
    tokio::join!(system.order.shutdown(), system.billing.shutdown());
}
