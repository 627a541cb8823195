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

/// What a browser may load and do: our own files, and nothing inline.
const CONTENT: &str = content!("'self'");

/// The same for Swagger UI, whose style sheet has its icons inline.
pub(in crate::console) const INLINE_ICONS: &str = content!("'self' data:");

const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // `no-referrer` would make browsers send `Origin: null` with forms, and where they send no `Sec-Fetch-Site`, that is all
    // there is to tell a page of ours by.
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

/// Adds the policy to every answer that has none of its own. Pages are not stored, since they show payloads; assets say that they may be.
pub(crate) async fn policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    let content = HeaderValue::from_static(CONTENT);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(content);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
