//! The services' APIs, as a client of theirs calls them.

use std::{sync::LazyLock, time::Duration};

use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{error::Error, system::Tenant};

const CORRELATION_ID: &str = "x-correlation-id";

/// Never by way of a proxy: all of it is on loopback.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
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
}

#[derive(Deserialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

/// What an order is made of: sku, quantity, unit price.
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

/// `POST /orders` of one that is complete at once. Gives the status; none: there was no answer.
pub(crate) async fn place_complete(port: u16, tenant: &Tenant) -> Option<u16> {
    let body = json!({
        "customer_email": format!("buyer@{}.example", tenant.name),
        "currency": "EUR",
        "complete": true,
        "items": [{ "sku": "TEA-EARL-GREY", "quantity": 2, "unit_price": 1_250 }],
    });
    let request = CLIENT.post(format!("http://127.0.0.1:{port}/orders")).json(&body);
    let answer = request.bearer_auth(tenant.key).send().await;
    answer.ok().map(|answer| answer.status().as_u16())
}

#[derive(Deserialize)]
struct Page {
    orders: Vec<Order>,
    next_cursor: Option<String>,
}

/// `GET /orders`, page by page: the ids of all.
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

/// `PUT /faults` on an admin port; `fault` is JSON, `null` heals.
pub(crate) async fn set_fault(
    admin: u16,
    token: &str,
    subscription: &str,
    fault: &str,
) -> Result<(), Error> {
    let body = format!(r#"{{"subscription": "{subscription}", "fault": {fault}}}"#);
    let request = CLIENT.put(format!("http://127.0.0.1:{admin}/faults")).bearer_auth(token);
    let request = request.header("content-type", "application/json").body(body);
    let failed =
        |source| Error::Http { service: "the admin port", request: "PUT /faults".into(), source };
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let answer = format!("{status}: {}", answer.text().await.unwrap_or_default());
    Err(Error::Answer { service: "the admin port", request: "PUT /faults".into(), answer })
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

/// `GET /invoices?order_id=`
pub(crate) async fn invoices(
    port: u16,
    tenant: &Tenant,
    order_id: &str,
) -> Result<Vec<Invoice>, Error> {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/invoices?order_id={order_id}"));
    Ok(send::<Invoices>("billing", tenant, request).await?.invoices)
}

/// An e-mail of notification's.
#[derive(Deserialize)]
pub(crate) struct Email {
    pub(crate) kind: String,
    pub(crate) to: String,
    /// None: not yet.
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
    /// What it answered.
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

/// What orders came to on a day, in a currency.
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
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/revenue"));
    Ok(send::<Revenues>("analytics", tenant, request).await?.revenue)
}

async fn send<T: DeserializeOwned>(
    service: &'static str,
    tenant: &Tenant,
    request: RequestBuilder,
) -> Result<T, Error> {
    execute(service, request.bearer_auth(tenant.key)).await
}

async fn execute<T: DeserializeOwned>(
    service: &'static str,
    request: RequestBuilder,
) -> Result<T, Error> {
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
    let (status, text) =
        answer.await.map_err(|source| Error::Http { service, request: request.clone(), source })?;
    match serde_json::from_str(&text) {
        Ok(body) if status.is_success() => Ok(body),
        _ => Err(Error::Answer { service, request, answer: format!("{status}: {text}") }),
    }
}

/// What became of a replay.
#[derive(Deserialize)]
pub(crate) struct Replayed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
}

#[derive(Deserialize)]
struct Recovered {
    replays: Vec<Replayed>,
}

/// `GET /replays?subscription=` on an admin port: what was replayed well.
pub(crate) async fn recovered(admin: &str, group: &str) -> Result<Vec<Replayed>, Error> {
    let request = CLIENT.get(format!("{admin}/replays?subscription={group}"));
    Ok(execute::<Recovered>("the admin port", request).await?.replays)
}

/// `GET /replays/{id}` on an admin port; none while it is not settled.
pub(crate) async fn replayed(admin: &str, id: &str) -> Result<Option<Replayed>, Error> {
    match execute("the admin port", CLIENT.get(format!("{admin}/replays/{id}"))).await {
        Ok(replayed) => Ok(Some(replayed)),
        Err(Error::Answer { answer, .. }) if answer.starts_with("404") => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a service's `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It does its work: `ready`, or `degraded` while it makes do without something.
    Answers(String),
    /// It says that it can't.
    Unready,
    /// It does not say anything.
    Silent,
}

impl Readiness {
    pub(crate) fn answers(&self) -> bool {
        matches!(self, Self::Answers(_))
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answers(status) => status,
            Self::Unready => "not ready",
            Self::Silent => "does not answer",
        })
    }
}

/// Whether somebody answers `GET /healthz` there.
pub(crate) async fn is_alive(port: u16) -> bool {
    let request = CLIENT.get(format!("http://127.0.0.1:{port}/healthz"));
    let answer = request.timeout(Duration::from_secs(2)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// `GET /readyz` on an admin port.
pub(crate) async fn readiness(admin: u16) -> Readiness {
    #[derive(Deserialize)]
    struct Report {
        status: String,
    }
    let request = CLIENT.get(format!("http://127.0.0.1:{admin}/readyz"));
    let Ok(answer) = request.timeout(Duration::from_secs(2)).send().await else {
        return Readiness::Silent;
    };
    if !answer.status().is_success() {
        return Readiness::Unready;
    }
    match answer.json::<Report>().await {
        Ok(report) => Readiness::Answers(report.status),
        Err(_) => Readiness::Silent,
    }
}
