//! `Retry-After` (RFC 9110, section 10.2.3): a number of seconds, or a date.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};

/// Maximum wait. A target that asks for more is retried after a day.
const MAX: Duration = Duration::from_hours(24);

/// Returns the requested wait if the target answered 429 or 503. Returns `None` without a valid
/// `Retry-After`.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    wait(headers.get(header::RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // A number that overflows is longer than a day too.
        value.parse().map_or(MAX, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 08:00:00 GMT").unwrap();
        let hour = Some(Duration::from_hours(1));
        for (value, wanted) in [
            ("3600", hour),
            (" 3600 ", hour),
            ("Thu, 26 Nov 2026 09:00:00 GMT", hour),
            ("0", Some(Duration::ZERO)),
            ("Thu, 26 Nov 2026 07:00:00 GMT", Some(Duration::ZERO)),
            ("99999999", Some(MAX)),
            ("99999999999999999999999999", Some(MAX)),
            ("Thu, 26 Nov 2099 09:00:00 GMT", Some(MAX)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(value, now), wanted, "{value}");
        }
    }

    #[test]
    fn only_429_and_503_are_heard() {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, "7".parse().unwrap())]);
        let of = |status: u16| retry_after(StatusCode::from_u16(status).unwrap(), &headers);
        assert_eq!(of(429), Some(Duration::from_secs(7)));
        assert_eq!(of(503), Some(Duration::from_secs(7)));
        assert_eq!((of(500), of(200), of(301)), (None, None, None));
    }
}
