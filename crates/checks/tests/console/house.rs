//! The four services and `orderflow serve` as processes, on separate servers.

use std::path::PathBuf;
use std::time::Duration;

use playground::{EVENT_SENDERS, Instance, Launch, OpsProcess, System, SystemOptions, ThirdParty};
use sandbox::testing::eventually;
use sandbox::{Silent, Tools};
use serde_json::Value;

use crate::shop::Placed;

/// Maximum time for the effects of an order.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Settings of every service.
const SETTINGS: [(&str, &str); 6] = [
    ("TENANTS", "demo-acme=acme,demo-globex=globex"),
    ("EVENT_SENDERS", EVENT_SENDERS),
    ("OPERATOR_TOKEN", "operator"),
    ("OPERATOR_TOKENS", "ada=ada-token,grace=grace-token"),
    ("FAULTS", "on"),
    ("RUST_LOG", "warn"),
];

/// The running system. It stops when dropped.
pub(crate) struct House {
    // The fields are dropped in this order.
    console: OpsProcess,
    /// Order, billing, notification and analytics.
    services: Vec<Instance>,
    /// The inventory, and the receiver of acme's webhook.
    pub(crate) third_party: ThirdParty,
    /// The receiver of globex' webhook.
    pub(crate) partner: ThirdParty,
    system: System,
}

impl House {
    /// Starts the system. It requires no sign-in, since it listens on loopback.
    pub(crate) async fn start() -> Self {
        let options = SystemOptions {
            databases: ["order", "billing", "notification", "analytics"].map(Into::into).into(),
            settings: SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..SystemOptions::new(programs())
        };
        let system = System::start(options, &Tools::find().unwrap(), &Silent).await.unwrap();
        let third_party = ThirdParty::start().await.unwrap();
        let partner = ThirdParty::start().await.unwrap();
        let allowed = format!("{},{}", third_party.address(), partner.address());
        let launcher = &system.launcher;
        let consumer = |name: &str| {
            let launch = Launch::new(name)
                .setting("WEBHOOK_ALLOW", &allowed)
                // Makes a delivery fail for good within minutes, so that there is one to show.
                .setting("WEBHOOK_RETRIES", "5s,30s,5m");
            launcher.start(launch)
        };
        let (billing, notification, analytics) =
            tokio::join!(consumer("billing"), consumer("notification"), consumer("analytics"));
        let (notification, analytics) = (notification.unwrap(), analytics.unwrap());
        let url = |it: &Instance| format!("http://127.0.0.1:{}", it.http);
        let order = Launch::new("order")
            .setting("NOTIFICATION_URL", url(&notification))
            .setting("ANALYTICS_URL", url(&analytics))
            .setting("INVENTORY_URL", third_party.url())
            .setting("SERVICE_KEY", "demo-order");
        let order = launcher.start(order).await.unwrap();
        let services = vec![order, billing.unwrap(), notification, analytics];
        let port = sandbox::port::free().unwrap();
        let console = OpsProcess::start(launcher, &services, "ada-token", port).await.unwrap();
        Self { console, services, third_party, partner, system }
    }

    /// Returns the address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.console.port)
    }

    pub(crate) fn service(&self, name: &str) -> &Instance {
        self.services.iter().find(|it| it.process.name() == name).unwrap()
    }

    /// Injects a fault into the subscription of a service; `null` heals it.
    pub(crate) async fn fault(&self, service: &str, fault: Value) {
        self.service(service).set_fault(fault).await.unwrap();
    }

    /// Waits until an order has its invoice.
    pub(crate) async fn invoiced(&self, order: &Placed) {
        let Placed { key, id } = order;
        let port = self.service("billing").http;
        let url = format!("http://127.0.0.1:{port}/invoices?order_id={id}");
        let http = reqwest::Client::new();
        let invoice = async || {
            let answer = http.get(&url).bearer_auth(key).send().await.ok()?;
            let answer: Value = answer.json().await.ok()?;
            answer["invoices"].as_array().filter(|it| !it.is_empty()).map(drop)
        };
        eventually(&format!("an invoice of {id}"), PATIENCE, invoice).await;
    }

    pub(crate) async fn end(mut self) {
        self.console.stop().await;
        for service in &mut self.services {
            service.terminate().await.unwrap();
        }
        self.system.stop().await;
    }
}

/// Returns the folder of the programs, which `make test` has built before.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap().to_owned();
    for name in ["order", "billing", "notification", "analytics", "orderflow"] {
        assert!(folder.join(name).is_file(), "{name} is not built: cargo build --workspace --bins");
    }
    folder
}
