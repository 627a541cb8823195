use http::HeaderMap;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::called;
use crate::exchange::{Exchange, Message};
use crate::operation::{Operation, find};
use crate::schemas::Schemas;

/// An OpenAPI 3.1 document that requests and responses are checked against.
#[derive(Debug)]
pub struct OpenApi {
    document: Value,
    schemas: Schemas,
}

impl OpenApi {
    /// Reads a document, usually an `include_str!`.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn new(document: &str) -> Self {
        let document: Value = serde_json::from_str(document)
            .unwrap_or_else(|error| panic!("an OpenAPI document is not JSON: {error}"));
        let schemas = Schemas::new(&document);
        Self { document, schemas }
    }

    /// Sends a request, and checks it and its response. The body is read completely.
    ///
    /// # Errors
    /// Fails if the request can't be sent.
    ///
    /// # Panics
    /// If something differs from the document. The message lists all violations.
    #[track_caller]
    pub fn send(&self, request: RequestBuilder) -> impl Future<Output = reqwest::Result<Response>> {
        let caller = std::panic::Location::caller();
        async move {
            let (client, request) = request.build_split();
            let request = request?;
            let (method, url) = (request.method().clone(), request.url().clone());
            let sent = Message {
                headers: request.headers().clone(),
                body: request.body().and_then(|it| it.as_bytes()).unwrap_or_default().to_vec(),
            };
            let response = client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let received = Message { headers, body: response.bytes().await?.to_vec() };
            let exchange = Exchange {
                method,
                url,
                request: sent,
                status: status.as_u16(),
                response: received,
            };
            let violations = self.violations(&exchange);
            let (method, path) = (&exchange.method, exchange.url.path());
            assert!(
                violations.is_empty(),
                "{method} {path} answered {status} against its contract ({caller}): {}\n{}",
                violations.join("; "),
                String::from_utf8_lossy(&exchange.response.body)
            );
            Ok(restored(exchange.response, status))
        }
    }

    /// Returns the violations of the document in an exchange.
    fn violations(&self, exchange: &Exchange) -> Vec<String> {
        if exchange.method == reqwest::Method::HEAD {
            return Vec::new();
        }
        let (method, path) = (exchange.method.as_str(), exchange.url.path());
        let Some((template, item)) = find(&self.document["paths"], path) else {
            return self.refusal(exchange, 404);
        };
        let description = &item[method.to_lowercase()];
        if description.is_null() {
            return self.refusal(exchange, 405);
        }
        let title = self.document["info"]["title"].as_str().unwrap_or_default();
        called::record(title, method, template);
        Operation { document: &self.document, schemas: &self.schemas, template, description }
            .violations(exchange)
    }

    /// Checks the response of a path or method that is not documented: it must be a problem with
    /// this status.
    fn refusal(&self, exchange: &Exchange, status: u16) -> Vec<String> {
        if exchange.status != status {
            let operation = format!("{} {}", exchange.method, exchange.url.path());
            return vec![format!("{operation} is not documented")];
        }
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        match exchange.response.json() {
            Ok(body) => self.schemas.response(&problem, &body),
            Err(error) => vec![format!("the body {error}")],
        }
    }
}

/// Returns a response with a body that was read already, so that it can be read again.
fn restored(read: Message, status: http::StatusCode) -> Response {
    let mut response = http::Response::new(read.body);
    *response.status_mut() = status;
    let headers: HeaderMap = read.headers;
    *response.headers_mut() = headers;
    response.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARCELS: &str = include_str!("parcels.json");
    const ID: &str = "01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55";

    fn message(media_type: &str, body: &Value) -> Message {
        let mut headers = HeaderMap::new();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        if !body.is_empty() {
            headers.insert("content-type", media_type.parse().expect("a value"));
        }
        Message { headers, body }
    }

    fn violations(method: &str, path: &str, sent: &Value, status: u16, received: &Value) -> String {
        let media_type = if status < 400 { "application/json" } else { "application/problem+json" };
        let exchange = Exchange {
            method: method.parse().expect("a method"),
            url: format!("http://localhost{path}").parse().expect("a URL"),
            request: message("application/json", sent),
            status,
            response: message(media_type, received),
        };
        OpenApi::new(PARCELS).violations(&exchange).join("; ")
    }

    #[test]
    fn an_exchange_as_documented_passes() {
        let (parcel, problem) = (json!({ "id": ID, "grams": 900 }), json!({ "detail": "no" }));
        for (method, path, sent, status, received) in [
            ("POST", "/parcels", json!({ "grams": 900 }), 201, &parcel),
            ("POST", "/parcels", json!({ "grams": "many" }), 422, &problem),
            ("GET", &format!("/parcels/{ID}?unit=g&limit=3"), Value::Null, 200, &parcel),
            ("DELETE", "/parcels/17", Value::Null, 405, &problem),
            ("GET", "/nothing", Value::Null, 404, &problem),
        ] {
            assert_eq!(violations(method, path, &sent, status, received), "", "{method} {path}");
        }
    }

    #[test]
    fn whatever_is_not_as_documented_is_named() {
        let nothing = Value::Null;
        let one = format!("/parcels/{ID}");
        let sound = json!({ "id": ID, "grams": 900 });
        let surprising = json!({ "id": ID, "grams": 900, "secret": 1 });
        let sent = json!({ "grams": 900 });
        let problem = json!({ "detail": "no" });
        for (method, path, sent, status, received, named) in [
            ("GET", &*one, &nothing, 418, &problem, "status is not documented"),
            ("GET", &one, &nothing, 200, &json!({ "id": ID }), "\"grams\" is a required"),
            ("GET", &one, &nothing, 200, &json!({ "id": "17", "grams": 1 }), "\"uuid\""),
            ("GET", &one, &nothing, 200, &surprising, "secret"),
            ("GET", &one, &nothing, 200, &nothing, "content type \"\""),
            ("GET", &format!("{one}?x=1"), &nothing, 200, &sound, "x is accepted"),
            ("GET", &format!("{one}?limit=many"), &nothing, 200, &sound, "limit is accepted"),
            ("GET", "/parcels/17", &nothing, 200, &sound, "id is accepted"),
            ("POST", "/parcels", &json!({ "grams": 0 }), 201, &sound, "a body is accepted: /grams"),
            ("POST", "/parcels", &nothing, 201, &sound, "a body is not required"),
            ("POST", &one, &sent, 201, &sound, "POST /parcels/01932c5e"),
            ("POST", "/nothing", &sent, 201, &sound, "POST /nothing is not documented"),
            ("GET", "/nothing", &nothing, 404, &json!({}), "\"detail\" is a required"),
        ] {
            let found = violations(method, path, sent, status, received);
            assert!(found.contains(named), "{method} {path}: {named} in {found:?}");
        }
    }
}
