//! Detects requests that another site made a browser send, by the rule of Go 1.25's
//! `http.CrossOriginProtection`.

use axum::http::{HeaderMap, Uri, header};

/// Origin of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A page of this server, or the user.
    Own,
    /// A page of another site.
    Foreign,
    /// A program that is no browser.
    Unknown,
}

/// Returns the origin of a request.
pub(super) fn origin_of(headers: &HeaderMap) -> Origin {
    let header = |name| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    match (header("sec-fetch-site"), header("origin")) {
        (Some("same-origin" | "none"), _) => Origin::Own,
        (Some(_), _) => Origin::Foreign,
        // Browsers send `Sec-Fetch-Site` only over TLS and to loopback.
        (None, Some(origin)) => {
            let authority = origin.parse::<Uri>().ok().and_then(|it| it.into_parts().authority);
            let is_own =
                authority.is_some_and(|it| header(header::HOST.as_str()) == Some(it.as_str()));
            if is_own { Origin::Own } else { Origin::Foreign }
        }
        (None, None) => Origin::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Origin {
        let host = ("host", "console:8080");
        let all = headers.iter().chain([&host]);
        let all = all
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        origin_of(&all.collect())
    }

    #[test]
    fn a_request_is_own_foreign_or_of_no_browser() {
        assert_eq!(of(&[("sec-fetch-site", "same-origin")]), Origin::Own);
        assert_eq!(of(&[("sec-fetch-site", "none")]), Origin::Own);
        for site in ["cross-site", "same-site", ""] {
            let forged = [("sec-fetch-site", site), ("origin", "http://console:8080")];
            assert_eq!(of(&forged), Origin::Foreign, "{site}");
        }
        assert_eq!(of(&[("origin", "http://console:8080")]), Origin::Own);
        for origin in ["http://evil", "http://console:8081", "null", "", "http://console:8080.evil"]
        {
            assert_eq!(of(&[("origin", origin)]), Origin::Foreign, "{origin}");
        }
        assert_eq!(of(&[]), Origin::Unknown);
    }
}
