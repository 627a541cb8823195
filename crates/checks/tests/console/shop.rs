//! Customers who place orders.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use serde_json::{Value, json};

use crate::house::House;

pub(crate) struct Tenant {
    key: &'static str,
    customers: [&'static str; 4],
    currency: &'static str,
}

pub(crate) const ACME: Tenant = Tenant {
    key: "demo-acme",
    customers: ["ines@example.com", "jonas@example.com", "priya@example.com", "tom@example.com"],
    currency: "EUR",
};
pub(crate) const GLOBEX: Tenant = Tenant {
    key: "demo-globex",
    customers: ["liv@example.org", "mateo@example.org", "noor@example.org", "sam@example.org"],
    currency: "USD",
};

/// Products and their prices.
const ASSORTMENT: [(&str, u32); 6] = [
    ("TEA-EARL-GREY", 1_250),
    ("TEAPOT-1L", 4_200),
    ("CUP-WHITE", 890),
    ("SAUCER-WHITE", 420),
    ("KETTLE-STEEL", 6_990),
    ("HONEY-500G", 780),
];

/// A completed order.
pub(crate) struct Placed {
    pub(crate) id: String,
    /// API key of its tenant.
    pub(crate) key: &'static str,
}

pub(crate) struct Shop<'a> {
    pub(crate) house: &'a House,
    next: AtomicUsize,
}

impl<'a> Shop<'a> {
    pub(crate) fn new(house: &'a House) -> Self {
        Self { house, next: AtomicUsize::new(1) }
    }

    /// Places a completed order; each is different.
    pub(crate) async fn sell(&self) -> Placed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tenant = if number == 3 || number == 6 { GLOBEX } else { ACME };
        let item = |at: usize| {
            let (sku, unit_price) = ASSORTMENT[at % ASSORTMENT.len()];
            json!({ "sku": sku, "quantity": 1 + at % 3, "unit_price": unit_price })
        };
        let items: Vec<_> = (0..=number % 3).map(|at| item(number + at)).collect();
        let order = json!({
            "customer_email": tenant.customers[number % tenant.customers.len()],
            "currency": tenant.currency, "complete": true, "items": items,
        });
        let url = format!("http://127.0.0.1:{}/orders", self.house.service("order").http);
        let request = Client::new().post(url).bearer_auth(tenant.key);
        let request = request.header("x-correlation-id", format!("checkout-{}", 4_700 + number));
        let answer = request.json(&order).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let order: Value = answer.json().await.unwrap();
        Placed { id: order["id"].as_str().unwrap().to_owned(), key: tenant.key }
    }

    /// Registers a webhook of a tenant that delivers to a third party at this address.
    pub(crate) async fn deliver(&self, tenant: &Tenant, to: &str) {
        let port = self.house.service("notification").http;
        let webhook = json!({ "url": format!("{to}/webhooks/orders") });
        let url = format!("http://127.0.0.1:{port}/webhooks");
        let request = Client::new().post(url).bearer_auth(tenant.key).json(&webhook);
        assert_eq!(request.send().await.unwrap().status(), 201);
    }
}
