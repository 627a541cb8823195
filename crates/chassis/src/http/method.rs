use axum::http::Method;

/// Name of unknown methods in metrics and spans (OpenTelemetry's semantic conventions for HTTP):
/// callers can make up any number of them, and each would be a separate series.
pub(super) const OTHER: &str = "_OTHER";

/// Returns the name of a method if it is one of RFC 9110 or PATCH, and otherwise `_OTHER`.
pub(super) fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

/// Returns the first word of a span's name: the method, or by the same conventions `HTTP` for an
/// unknown one.
pub(super) fn in_span_name(method: &'static str) -> &'static str {
    if method == OTHER { "HTTP" } else { method }
}
