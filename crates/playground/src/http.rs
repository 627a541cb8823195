//! Client for the services' public APIs.

use std::{sync::LazyLock, time::Duration};

use reqwest::{Client, RequestBuilder, Response};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use time::OffsetDateTime;

use crate::{Error, deployment::Tenant};

const CORRELATION_ID: &str = "x-correlation-id";

/// Without a proxy, because all servers are on loopback.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10));
    client.build().unwrap_or_default()
});

#[derive(Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) total: i64,
    pub(crate) currency: String,
}

#[derive(Deserialize, PartialEq, Eq)]
pub(crate) struct Invoice {
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) total: i64,
    pub(crate) currency: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) issued_at: OffsetDateTime,
}

#[derive(Deserialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

/// A line of an order: sku, quantity, unit price.
pub(crate) type Item = (&'static str, u32, u32);

/// `POST /orders`
pub(crate) async fn place(
    port: u16,
    tenant: &Tenant,
    correlation_id: &str,
    currency: &str,
    items: &[Item],
) -> Result<Order, Error> {
    let item = |(sku, quantity, unit_price): &Item| json!({ "sku": sku, "quantity": quantity, "unit_price": unit_price });
    let body = json!({
        "customer_email": format!("buyer@{}.example", tenant.name),
        "currency": currency,
        "items": items.iter().map(item).collect::<Vec<_>>(),
    });
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/orders")).json(&body);
    send("order", tenant, request.header(CORRELATION_ID, correlation_id)).await
}

/// `POST /orders` with an order that is completed at once.
pub(crate) async fn place_complete(port: u16, tenant: &Tenant) -> reqwest::Result<Response> {
    let body = json!({
        "customer_email": format!("buyer@{}.example", tenant.name),
        "currency": "EUR",
        "complete": true,
        "items": [{ "sku": "TEA-EARL-GREY", "quantity": 2, "unit_price": 1_250 }],
    });
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/orders")).json(&body);
    request.bearer_auth(tenant.key).send().await
}

#[derive(Deserialize)]
struct Page {
    orders: Vec<Order>,
    next_cursor: Option<String>,
}

/// Returns the ids of all orders, from all pages of `GET /orders`.
pub(crate) async fn orders(port: u16, tenant: &Tenant) -> Result<Vec<String>, Error> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("http://127.0.0.1:{port}/orders?limit=100{cursor}");
        let page: Page = send("order", tenant, CLIENT.get(url)).await?;
        ids.extend(page.orders.into_iter().map(|order| order.id));
        let Some(next) = page.next_cursor else { return Ok(ids) };
        cursor = format!("&cursor={next}");
    }
}

/// `POST /orders/{id}/complete`
pub(crate) async fn complete(
    port: u16,
    tenant: &Tenant,
    correlation_id: &str,
    id: &str,
) -> Result<Order, Error> {
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/orders/{id}/complete"));
    send("order", tenant, request.header(CORRELATION_ID, correlation_id)).await
}

/// `POST /orders/{id}/cancel`
pub(crate) async fn cancel(
    port: u16,
    tenant: &Tenant,
    correlation_id: &str,
    id: &str,
) -> Result<Order, Error> {
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/orders/{id}/cancel"));
    send("order", tenant, request.header(CORRELATION_ID, correlation_id)).await
}

/// `GET /invoices?order_id=`
pub(crate) async fn invoices(
    port: u16,
    tenant: &Tenant,
    order_id: &str,
) -> Result<Vec<Invoice>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/invoices?order_id={order_id}"));
    Ok(send::<Invoices>("billing", tenant, request).await?.invoices)
}

/// A credit note of the billing service.
#[derive(Deserialize)]
pub(crate) struct CreditNote {
    pub(crate) number: i64,
    pub(crate) invoice_number: i64,
    pub(crate) total: i64,
}

#[derive(Deserialize)]
struct CreditNotes {
    credit_notes: Vec<CreditNote>,
}

/// `GET /credit-notes?order_id=`
pub(crate) async fn credit_notes(
    port: u16,
    tenant: &Tenant,
    order_id: &str,
) -> Result<Vec<CreditNote>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/credit-notes?order_id={order_id}"));
    Ok(send::<CreditNotes>("billing", tenant, request).await?.credit_notes)
}

/// An e-mail of the notification service.
#[derive(Deserialize)]
pub(crate) struct Email {
    pub(crate) kind: String,
    pub(crate) to: String,
    /// `None` if it is not sent yet.
    pub(crate) sent_at: Option<String>,
}

#[derive(Deserialize)]
struct Emails {
    emails: Vec<Email>,
}

/// `GET /emails?order_id=`
pub(crate) async fn emails(
    port: u16,
    tenant: &Tenant,
    order_id: &str,
) -> Result<Vec<Email>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/emails?order_id={order_id}"));
    Ok(send::<Emails>("notification", tenant, request).await?.emails)
}

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "id")]
    _id: String,
}

/// `POST /webhooks`
pub(crate) async fn register(port: u16, tenant: &Tenant, url: &str) -> Result<(), Error> {
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/webhooks"));
    let request = request.json(&json!({ "url": url }));
    send::<Id>("notification", tenant, request).await.map(drop)
}

/// A request that the third party received.
#[derive(Deserialize)]
pub(crate) struct Received {
    pub(crate) body: String,
    headers: Vec<(String, String)>,
    /// Status of the response.
    pub(crate) status: Option<u16>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|header| header.0 == name);
        header.map_or("", |header| header.1.as_str())
    }
}

#[derive(Deserialize)]
struct AllReceived {
    received: Vec<Received>,
}

/// `GET /received?path=` of the third party.
pub(crate) async fn received(port: u16, path: &str) -> Result<Vec<Received>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/received?path={path}"));
    Ok(execute::<AllReceived>("the third party", request).await?.received)
}

/// The orders of a day and their sum, in one currency.
#[derive(Deserialize)]
pub(crate) struct Revenue {
    pub(crate) currency: String,
    pub(crate) orders: usize,
    pub(crate) total: i64,
}

#[derive(Deserialize)]
struct Revenues {
    revenue: Vec<Revenue>,
}

/// `GET /revenue`
pub(crate) async fn revenue(port: u16, tenant: &Tenant) -> Result<Vec<Revenue>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/revenue?limit=100"));
    Ok(send::<Revenues>("analytics", tenant, request).await?.revenue)
}

#[derive(Deserialize)]
struct Funnel {
    cancelled: usize,
}

/// Returns the number of cancelled orders, from `GET /funnel`.
pub(crate) async fn cancelled(port: u16, tenant: &Tenant) -> Result<usize, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/funnel"));
    Ok(send::<Funnel>("analytics", tenant, request).await?.cancelled)
}

async fn send<T: DeserializeOwned>(
    service: &str,
    tenant: &Tenant,
    request: RequestBuilder,
) -> Result<T, Error> {
    execute(service, request.bearer_auth(tenant.key)).await
}

async fn execute<T: DeserializeOwned>(service: &str, request: RequestBuilder) -> Result<T, Error> {
    let built = request.build();
    let (request, sent) = match built {
        Ok(request) => {
            let name = format!("{} {}", request.method(), request.url().path());
            (name, CLIENT.execute(request).await)
        }
        Err(error) => ("a request".into(), Err(error)),
    };
    let answer = async {
        let answer = sent?;
        Ok((answer.status(), answer.text().await?))
    };
    let (status, text) = answer.await.map_err(|source| Error::Http {
        service: service.into(),
        request: request.clone(),
        source,
    })?;
    match serde_json::from_str(&text) {
        Ok(body) if status.is_success() => Ok(body),
        _ => Err(Error::Answer {
            service: service.into(),
            request,
            answer: format!("{status}: {text}"),
        }),
    }
}
