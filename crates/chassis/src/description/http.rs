//! The OpenAPI document of a service: its routes, and what all services have in common.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// Components that every document has.
const SHARED: &str = include_str!("shared.json");

/// Statuses of problems.
const STATUSES: [&str; 15] = [
    "400", "401", "403", "404", "408", "409", "412", "413", "415", "422", "428", "429", "500",
    "503", "504",
];

const DESCRIPTION: &str = "Errors are problems (RFC 9457). A repeated request with the same \
    `Idempotency-Key` takes effect once. Fields may be added to responses at any time.";

/// Completes the document of a service's routes with everything that the layers around them add to
/// each: credentials, correlation ids, and the problems that a route of its kind may answer.
pub(super) fn document(service: &str, port: u16, routes: OpenApi) -> Value {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": format!("Orderflow {service}"),
        "version": "1.0.0",
        "description": DESCRIPTION,
        "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
    });
    document["servers"] = json!([{ "url": format!("http://127.0.0.1:{port}") }]);
    let shared: Value = serde_json::from_str(SHARED).unwrap_or_default();
    if let Value::Object(kinds) = shared {
        for (kind, components) in kinds {
            merge(&mut document["components"][kind], components);
        }
    }
    document["components"]["responses"] = problems();
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for path in paths.filter_map(Value::as_object_mut) {
        path.get_mut("get").into_iter().for_each(make_conditional);
        path.values_mut().for_each(complete);
    }
    document
}

/// Adds the members of one object to another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

/// Documents the conditional form of a read that returns JSON, since its response has an `ETag`.
/// Leaves out a read that documents a 304 itself.
fn make_conditional(operation: &mut Value) {
    let reads_json = operation["responses"]["200"]["content"]["application/json"].is_object();
    if !reads_json || operation["responses"]["304"].is_object() {
        return;
    }
    let etag = json!({ "$ref": "#/components/headers/ETag" });
    operation["responses"]["200"]["headers"]["ETag"] = etag.clone();
    operation["responses"]["304"] =
        json!({ "description": "The caller's copy is current", "headers": { "ETag": etag } });
    add_parameter(operation, "IfNoneMatch");
}

/// Adds a parameter of the shared components to an operation.
fn add_parameter(operation: &mut Value, name: &str) {
    let parameter = json!({ "$ref": format!("#/components/parameters/{name}") });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Completes an operation with the problems, credentials, parameters and headers that the layers
/// around it add.
fn complete(operation: &mut Value) {
    let problems = problems_of(operation);
    let responses = &mut operation["responses"];
    for status in problems {
        if responses[status].is_null() {
            responses[status] = json!({});
        }
    }
    let responses = responses.as_object_mut().into_iter().flat_map(Map::iter_mut);
    for (status, response) in responses {
        complete_response(status, response);
    }
    if operation["security"].is_null() {
        operation["security"] = json!([{ "tenant": [] }]);
    }
    let parameters = operation["parameters"].as_array_mut().into_iter().flatten();
    parameters.for_each(|it| never_null(&mut it["schema"]));
    add_parameter(operation, "CorrelationId");
}

/// Removes `null` from the types of a parameter. It stems from an `Option`, and a parameter can't
/// express it.
fn never_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|it| it != "null");
        if let [single] = &types[..] {
            schema["type"] = single.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|it| it["type"] != "null");
        if let [single] = &choices[..] {
            *schema = single.clone();
        }
    }
}

/// Returns the responses that are problems, by name.
fn problems() -> Value {
    let problem = |status: &&str| {
        let mut response = json!({ "description": meaning(status) });
        describe(status, &mut response);
        (problem_name(status), response)
    };
    Value::Object(STATUSES.iter().map(problem).collect())
}

fn problem_name(status: &str) -> String {
    format!("Problem{status}")
}

/// Describes a response with an error status as a problem, and adds the headers of every response.
fn complete_response(status: &str, response: &mut Value) {
    let is_plain = response["description"].as_str().is_none_or(str::is_empty);
    if is_plain && STATUSES.contains(&status) {
        let name = problem_name(status);
        *response = json!({ "$ref": format!("#/components/responses/{name}") });
    } else {
        describe(status, response);
    }
}

fn describe(status: &str, response: &mut Value) {
    let header = |name: &str| json!({ "$ref": format!("#/components/headers/{name}") });
    let headers = &mut response["headers"];
    headers["X-Correlation-Id"] = header("CorrelationId");
    match status {
        "401" => headers["WWW-Authenticate"] = header("WwwAuthenticate"),
        "409" | "429" | "503" => headers["Retry-After"] = header("RetryAfter"),
        _ => {}
    }
    if status.starts_with(['4', '5']) {
        let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        response["content"] = json!({ "application/problem+json": problem });
    }
}

/// Returns the statuses of problems that follow from the kind of an operation.
fn problems_of(operation: &Value) -> Vec<&'static str> {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let has = |location: &str| parameters.iter().any(|it| it["in"] == location);
    let takes = |name: &str| parameters.iter().any(|it| it["name"] == name);
    // 409, because every statement has a time limit for its wait for locks.
    let mut statuses = vec!["401", "409", "429", "500", "503", "504"];
    if has("path") {
        statuses.push("404");
    }
    if has("query") || has("header") || operation["requestBody"].is_object() {
        statuses.push("400");
    }
    if operation["requestBody"].is_object() {
        statuses.extend(["408", "413", "415", "422"]);
    }
    if takes("Idempotency-Key") {
        statuses.extend(["408", "413", "422"]);
    }
    if let Some(if_match) = parameters.iter().find(|it| it["name"] == "If-Match") {
        statuses.push("412");
        if if_match["required"] == true {
            statuses.push("428");
        }
    }
    if operation["security"][0]["service"].is_array() {
        statuses.push("403");
    }
    statuses
}

fn meaning(status: &str) -> &'static str {
    match status {
        "400" => "The request is malformed.",
        "401" => "The key is missing or unknown.",
        "403" => "The credential does not permit the request.",
        "404" => "The resource does not exist, or belongs to another tenant.",
        "408" => "The body did not arrive in time.",
        "409" => "The request conflicts with the state, or with another request.",
        "412" => "The resource was changed since the version in `If-Match`.",
        "413" => "The body is too large.",
        "415" => "The media type of the body is not supported.",
        "422" => "The request is well-formed but violates a rule.",
        "428" => "The request lacks `If-Match`, which names the version to change.",
        "429" => "The tenant exceeds its rate limit.",
        "503" => "The service or one that it depends on is unavailable.",
        "504" => "The request timed out and may still take effect.",
        _ => "The service failed.",
    }
}
