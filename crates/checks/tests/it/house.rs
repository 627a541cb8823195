//! Order and billing as separate instances for each test, and a client.

use std::sync::Once;
use std::time::Duration;

use chassis::{Config, RunningService};
use reqwest::{Client, RequestBuilder, Response};
use sandbox::testing::eventually;
use serde_json::{Value, json};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct House {
    pub(crate) order: RunningService,
    pub(crate) billing: RunningService,
    client: Client,
}

impl House {
    pub(crate) async fn start(order: Config, billing: Config) -> Self {
        // As in production: without it there are no spans, so there would be no trace to compare.
        static TELEMETRY: Once = Once::new();
        TELEMETRY.call_once(|| {
            telemetry::init("checks", telemetry::LogFormat::Silent).unwrap();
        });
        Self {
            order: order::app::build(order::Config::new(order)).start().await.unwrap(),
            billing: billing::app::build(billing::Config { chassis: billing })
                .start()
                .await
                .unwrap(),
            client: Client::new(),
        }
    }

    /// Creates a request that places a completed order.
    pub(crate) fn place(&self) -> RequestBuilder {
        let body = json!({
            "customer_email": "ada@example.com", "currency": "EUR", "complete": true,
            "items": [{"sku": "tea", "quantity": 2, "unit_price": 450}],
        });
        let url = format!("http://{}/orders", self.order.http);
        self.client.post(url).bearer_auth("demo-acme").json(&body)
    }

    pub(crate) async fn placed(&self) -> String {
        let response = self.place().send().await.unwrap();
        assert_eq!(response.status(), 201);
        id(response).await
    }

    pub(crate) async fn invoices(&self, order: &str) -> Vec<Value> {
        let url = format!("http://{}/invoices?order_id={order}", self.billing.http);
        let response = self.client.get(url).bearer_auth("demo-acme").send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        body["invoices"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) async fn invoiced(&self, order: &str) -> Value {
        let invoice = async || self.invoices(order).await.pop();
        eventually(&format!("an invoice of {order}"), PATIENCE, invoice).await
    }

    pub(crate) async fn ready(running: &RunningService) -> (u16, Value) {
        let response = reqwest::get(format!("http://{}/readyz", running.admin)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn end(self) {
        let (order, billing) = tokio::join!(self.order.shutdown(), self.billing.shutdown());
        assert!(order && billing, "both drain in time");
    }
}

pub(crate) async fn id(response: Response) -> String {
    let order: Value = response.json().await.unwrap();
    order["id"].as_str().unwrap().to_owned()
}
