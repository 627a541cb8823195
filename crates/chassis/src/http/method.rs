use axum::http::Method;

/// A method that is none of the known ones, in metrics and spans (OpenTelemetry's semantic conventions for HTTP): callers may
/// make up as many as they like, and each would be a series of its own.
pub(super) const OTHER: &str = "_OTHER";

/// Returns the name of a method if it is one of RFC 9110 or PATCH, and otherwise `_OTHER`.
pub(super) fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

/// Returns the method as the name of a span begins with it: by the conventions that is `HTTP` for an unknown one.
pub(super) fn in_span_name(method: &'static str) -> &'static str {
    if method == OTHER { "HTTP" } else { method }
}
