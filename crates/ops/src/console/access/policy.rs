use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

macro_rules! content {
    ($images:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src ",
            $images,
            "; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
    };
}

/// Content security policy: only files of this server, and nothing inline.
const CONTENT: &str = content!("'self'");

/// The same policy for Swagger UI, whose style sheet contains inline icons.
pub(in crate::console) const INLINE_ICONS: &str = content!("'self' data:");

const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // With `no-referrer`, browsers send `Origin: null` with forms. Without `Sec-Fetch-Site`,
    // `Origin` is the only header that identifies the console's own pages.
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

/// Adds the policy to every response without one. Pages are not stored, since they show payloads;
/// assets have their own header.
pub(crate) async fn policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    let content = HeaderValue::from_static(CONTENT);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(content);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
