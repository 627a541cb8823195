//! The committed contracts of this release, which are available without a network and while
//! services are down.

use askama::Template;
use axum::extract::Path;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use crate::console::access::INLINE_ICONS;
use crate::console::{Page, PageError, filters};

/// A committed file.
struct Contract {
    path: &'static str,
    text: &'static str,
}

macro_rules! contracts {
    ($($path:literal),* $(,)?) => {
        [$(Contract {
            path: $path,
            text: include_str!(concat!("../../../../../schemas/", $path)),
        }),*]
    };
}

static CONTRACTS: [Contract; 5] = contracts![
    "http/order.json",
    "http/billing.json",
    "http/notification.json",
    "http/analytics.json",
    "asyncapi.json",
];

/// The AsyncAPI document.
pub(super) const EVENTS: &str = "asyncapi.json";

/// Returns the text of a contract.
pub(super) fn text(path: &str) -> Option<&'static str> {
    CONTRACTS.iter().find(|it| it.path == path).map(|it| it.text)
}

/// Returns the services whose HTTP interface is described.
pub(super) fn services() -> Vec<&'static str> {
    CONTRACTS.iter().filter_map(|it| it.path.strip_prefix("http/")?.strip_suffix(".json")).collect()
}

/// `GET /api/schemas/{path}`: a contract as committed.
pub(super) async fn file(Path(path): Path<String>) -> Result<Response, PageError> {
    let text = text(&path).ok_or_else(|| PageError::not_found("There is no such contract."))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[derive(Template)]
#[template(path = "api/http.html")]
struct Http {
    page: Page,
    service: &'static str,
    services: Vec<&'static str>,
}

/// `GET /api/http/{service}`: the HTTP interface of a service in Swagger UI.
pub(super) async fn show(Path(service): Path<String>) -> Result<Response, PageError> {
    let services = services();
    let service = services.iter().find(|it| **it == service).copied();
    let service = service.ok_or_else(|| PageError::not_found("There is no such service."))?;
    // Swagger UI has its own style sheet and scripts.
    let page = Page::outside(&format!("API of {service}"));
    let html = Html(Http { page, service, services }.render()?);
    Ok(([(header::CONTENT_SECURITY_POLICY, INLINE_ICONS)], html).into_response())
}
