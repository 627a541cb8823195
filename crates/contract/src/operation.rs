use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::exchange::{Exchange, Message};
use crate::schemas::Schemas;

/// An operation of a document.
pub(crate) struct Operation<'a> {
    pub(crate) document: &'a Value,
    pub(crate) schemas: &'a Schemas,
    /// Path, with parameters in braces.
    pub(crate) template: &'a str,
    pub(crate) description: &'a Value,
}

/// Returns the path of a document that matches a request's path. Paths without parameters take
/// precedence.
pub(crate) fn find<'a>(paths: &'a Value, path: &str) -> Option<(&'a str, &'a Value)> {
    let found = paths.as_object()?.iter().filter(|(template, _)| matches(template, path));
    let found = found.min_by_key(|(template, _)| template.matches('{').count());
    found.map(|(template, item)| (template.as_str(), item))
}

fn matches(template: &str, path: &str) -> bool {
    let (mut parts, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (parts.next(), given.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given => {}
            (Some(part), Some(given)) if part.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

impl Operation<'_> {
    pub(crate) fn violations(&self, exchange: &Exchange) -> Vec<String> {
        let mut violations = self.response_violations(exchange);
        if exchange.is_accepted() {
            violations.extend(self.parameter_violations(exchange));
            violations.extend(self.body_violations(exchange));
        }
        violations
    }

    fn response_violations(&self, exchange: &Exchange) -> Vec<String> {
        let status = exchange.status.to_string();
        let described = self.resolve(&self.description["responses"][&status]);
        if described.is_null() {
            return vec!["the status is not documented".to_owned()];
        }
        let mut violations = self.header_violations(described, &exchange.response);
        let Some(content) = described["content"].as_object() else {
            if !exchange.response.body.is_empty() {
                violations.push("the response should have no body".to_owned());
            }
            return violations;
        };
        let media_type = exchange.response.media_type();
        match (content.get(media_type), exchange.response.json()) {
            (None, _) => {
                violations.push(format!("the content type {media_type:?} is not documented"));
            }
            (Some(_), Err(error)) => violations.push(format!("the body {error}")),
            (Some(content), Ok(body)) => {
                violations.extend(self.schemas.response(&content["schema"], &body));
            }
        }
        violations
    }

    fn header_violations(&self, described: &Value, response: &Message) -> Vec<String> {
        let headers = described["headers"].as_object().into_iter().flatten();
        let required = headers.filter(|(_, header)| self.resolve(header)["required"] == true);
        let missing = required.filter(|(name, _)| !response.headers.contains_key(name.as_str()));
        missing.map(|(name, _)| format!("the header {name} is missing")).collect()
    }

    /// Checks the parameters of an accepted request.
    fn parameter_violations(&self, exchange: &Exchange) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, value) in exchange.url.query_pairs() {
            match self.parameter("query", &name) {
                Some(parameter) => violations.extend(self.check(parameter, &name, &value)),
                None => {
                    violations.push(format!("{name} is accepted in the query and not documented"));
                }
            }
        }
        let parts = self.template.split('/').zip(exchange.url.path().split('/'));
        for (part, value) in parts {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            if let Some((name, parameter)) =
                name.and_then(|it| Some((it, self.parameter("path", it)?)))
            {
                let value = percent_decode_str(value).decode_utf8_lossy();
                violations.extend(self.check(parameter, name, &value));
            }
        }
        let all = self.description["parameters"].as_array().into_iter().flatten();
        for parameter in all.map(|it| self.resolve(it)) {
            let name = parameter["name"].as_str().unwrap_or_default();
            let is_there = match parameter["in"].as_str() {
                Some("header") => exchange.request.headers.contains_key(name),
                Some("query") => exchange.url.query_pairs().any(|(it, _)| it == name),
                _ => true,
            };
            if parameter["required"] == true && !is_there {
                violations.push(format!("{name} is not required as documented"));
            }
        }
        violations
    }

    fn parameter(&self, location: &str, name: &str) -> Option<&Value> {
        let mut all = self.description["parameters"].as_array()?.iter().map(|it| self.resolve(it));
        all.find(|it| it["in"] == location && it["name"] == name)
    }

    fn check(&self, parameter: &Value, name: &str, value: &str) -> Vec<String> {
        let schema = &parameter["schema"];
        let of_type = |wanted: &str| match &schema["type"] {
            Value::Array(types) => types.iter().any(|it| it == wanted),
            single => single == wanted,
        };
        let value = match value.parse::<i64>() {
            Ok(number) if of_type("integer") => json!(number),
            _ if of_type("boolean") => json!(value == "true"),
            _ => json!(value),
        };
        let violations = self.schemas.request(schema, &value);
        violations.into_iter().map(|it| format!("{name} is accepted: {it}")).collect()
    }

    /// Checks the body of an accepted request.
    fn body_violations(&self, exchange: &Exchange) -> Vec<String> {
        let request = &exchange.request;
        let described = &self.description["requestBody"];
        let violation = |text: &str| vec![text.to_owned()];
        match (described["content"].as_object(), request.body.is_empty()) {
            (_, true) if described["required"] == true => {
                violation("a body is not required as documented")
            }
            (_, true) => Vec::new(),
            // The body of a GET or DELETE has no meaning (RFC 9110, sections 9.3.1 and 9.3.5).
            (None, false) if matches!(exchange.method.as_str(), "GET" | "DELETE") => Vec::new(),
            (None, false) => violation("a body is accepted and not documented"),
            (Some(content), false) => {
                let media_type = request.media_type();
                // A body without a media type is checked against the only documented one.
                let only = content.values().next().filter(|_| media_type.is_empty());
                match (content.get(media_type).or(only), request.json()) {
                    (None, _) => vec![format!(
                        "the content type {media_type:?} is accepted and not documented"
                    )],
                    (Some(_), Err(error)) => vec![format!("a body that {error} is accepted")],
                    (Some(content), Ok(body)) => {
                        let violations = self.schemas.request(&content["schema"], &body);
                        violations
                            .into_iter()
                            .map(|it| format!("a body is accepted: {it}"))
                            .collect()
                    }
                }
            }
        }
    }

    /// Follows a reference into the components.
    fn resolve<'v>(&'v self, value: &'v Value) -> &'v Value {
        let pointer = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        pointer.and_then(|it| self.document.pointer(it)).unwrap_or(value)
    }
}
