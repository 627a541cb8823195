//! Problems as the bodies of hyper's own refusals. hyper answers a malformed or too large head with
//! 400, 414 or 431 and an empty body, before there is a request, and has no hook for it. The heads
//! of these responses are recognised when they are written to the connection: hyper writes nothing
//! else by itself between two exchanges.

use axum::http::StatusCode;
use envelope::CorrelationId;

use super::problem::Problem;
use super::request::CORRELATION_ID;

/// Header of a response without a body.
const NO_BODY: &str = "content-length: 0\r\n";

/// Returns hyper's refusal with a problem as its body. Returns `None` if `head` is not one.
pub(super) fn with_problem(head: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?;
    let status = status.get(..3)?.parse().ok()?;
    if !head.contains(NO_BODY) || !head.ends_with("\r\n\r\n") {
        return None;
    }
    let id = CorrelationId::generate();
    let body = problem(status)?.body(id.as_str());
    let length = body.len();
    let headers = format!(
        "content-type: application/problem+json\r\ncontent-length: {length}\r\n{CORRELATION_ID}: {id}\r\n",
        id = id.as_str()
    );
    tracing::debug!(status, correlation_id = id.as_str(), "request refused before it was read");
    Some((head.replacen(NO_BODY, &headers, 1) + &body).into_bytes())
}

fn problem(status: u16) -> Option<Problem> {
    let problem = match StatusCode::from_u16(status).ok()? {
        StatusCode::BAD_REQUEST => {
            Problem::bad_request("the request line or a header is not valid HTTP/1.1")
        }
        status @ StatusCode::URI_TOO_LONG => {
            Problem::new(status, "URI too long", "path and query are too long; shorten them")
        }
        status @ StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let detail = "the headers are too large or too many; send fewer or shorter ones";
            Problem::new(status, "Request header fields too large", detail)
        }
        _ => return None,
    };
    Some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_are_given_a_body() {
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nwrong",
            "",
        ] {
            assert_eq!(with_problem(other.as_bytes()), None, "{other}");
        }
        let refusal = "HTTP/1.1 431 x\r\nconnection: close\r\ncontent-length: 0\r\ndate: d\r\n\r\n";
        let given = String::from_utf8(with_problem(refusal.as_bytes()).expect("a body"));
        let given = given.expect("text");
        let (head, body) = given.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{given}");
        assert!(head.contains("connection: close") && head.ends_with("date: d"), "{given}");
    }
}
