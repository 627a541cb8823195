//! The cookies: the session, and the result of the last action.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};

use super::Session;
use super::seal::Seal;
use crate::client::Token;
use crate::console::Notice;

/// How long an operator stays signed in: a shift.
const LIFE: Duration = Duration::from_hours(12);
const NOTICE: &str = "orderflow-said";
/// How long the result of an action may wait for the page that shows it.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// When browsers send cookies over TLS only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Secure {
    Always,
    Never,
    /// If the browser reached the proxy over TLS, according to `X-Forwarded-Proto`.
    AsProxied,
}

impl Secure {
    fn applies(self, headers: &HeaderMap) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::AsProxied => {
                let protocol = headers.get("x-forwarded-proto").and_then(|it| it.to_str().ok());
                // With several proxies, the browser reached the first one.
                let first = protocol.and_then(|it| it.split(',').next());
                first.is_some_and(|it| it.trim().eq_ignore_ascii_case("https"))
            }
        }
    }
}

/// Writes and reads the cookies. `headers` are those of the request.
pub(super) struct Cookies {
    seal: Seal,
    secure: Secure,
}

impl Cookies {
    pub(super) fn new(seal: Seal, secure: Secure) -> Self {
        Self { seal, secure }
    }

    fn session_name(&self, headers: &HeaderMap) -> &'static str {
        // Browsers accept a cookie with this prefix only with `Secure` and for this host.
        if self.secure.applies(headers) { "__Host-orderflow" } else { "orderflow" }
    }

    /// Returns the header that starts a session. Returns `None` if the system has no randomness.
    pub(super) fn sign_in(&self, headers: &HeaderMap, session: &Session) -> Option<String> {
        let until = (SystemTime::now() + LIFE).duration_since(UNIX_EPOCH).ok()?.as_secs();
        let name = session.name().unwrap_or_default();
        let text = format!("{until}\n{name}\n{}", session.token().0);
        let name = self.session_name(headers);
        let value = self.seal.close(name, text.as_bytes())?;
        Some(self.header(headers, name, &value, LIFE))
    }

    /// Returns the header that ends a session.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> String {
        self.header(headers, self.session_name(headers), "", Duration::ZERO)
    }

    /// Returns the session of a request's cookie, if this server sealed it and it has not expired.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let text = self.read(headers, self.session_name(headers))?;
        let mut parts = std::str::from_utf8(&text).ok()?.splitn(3, '\n');
        let (until, name, token) = (parts.next()?, parts.next()?, parts.next()?);
        let until = UNIX_EPOCH + Duration::from_secs(until.parse().ok()?);
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        (SystemTime::now() < until).then(|| Session::signed_in(Token(token.to_owned()), name))
    }

    /// Returns the header that stores the result of an action for the next page.
    pub(super) fn notice_cookie(&self, headers: &HeaderMap, notice: &Notice) -> Option<String> {
        let value = self.seal.close(NOTICE, &notice.encoded())?;
        Some(self.header(headers, NOTICE, &value, SHOWN_WITHIN))
    }

    /// Returns the result of the last action, if no page has shown it yet.
    pub(super) fn notice(&self, headers: &HeaderMap) -> Option<Notice> {
        Notice::decoded(&self.read(headers, NOTICE)?)
    }

    /// Returns the header that removes the result, so that it is shown once.
    pub(super) fn forget(&self, headers: &HeaderMap) -> String {
        self.header(headers, NOTICE, "", Duration::ZERO)
    }

    fn header(&self, headers: &HeaderMap, name: &str, value: &str, life: Duration) -> String {
        let age = life.as_secs();
        let secure = if self.secure.applies(headers) { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Opens the first cookie of this name that this server has sealed.
    fn read(&self, headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let pairs = cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        let mut values = pairs.filter(|(known, _)| *known == name);
        values.find_map(|(_, value)| self.seal.open(name, value))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn cookies(secret: &str, secure: Secure) -> Cookies {
        Cookies::new(Seal::new(secret, &Token::default()), secure)
    }

    fn sent(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("a=b; {pair}").parse().unwrap())])
    }

    fn ada() -> Session {
        Session::signed_in(Token("secret".into()), Some("ada".into()))
    }

    fn none() -> HeaderMap {
        HeaderMap::new()
    }

    #[test]
    fn a_session_outlives_a_restart_with_the_same_secret_only() {
        let one = || cookies("one", Secure::Never);
        let header = one().sign_in(&none(), &ada()).unwrap();
        assert!(!header.contains("secret"), "{header}");
        let session = one().session(&sent(&header)).unwrap();
        assert_eq!((session.name(), &*session.token().0), (Some("ada"), "secret"));
        assert!(cookies("two", Secure::Never).session(&sent(&header)).is_none());
        assert!(cookies("", Secure::Never).session(&sent(&header)).is_none());
    }

    #[test]
    fn a_cookie_that_was_changed_is_none() {
        let cookies = cookies("one", Secure::Always);
        let header = cookies.sign_in(&none(), &ada()).unwrap();
        assert!(header.starts_with("__Host-orderflow=") && header.ends_with("; Secure"));
        let changed = header.replacen("orderflow=", "orderflow=A", 1);
        assert!(cookies.session(&sent(&changed)).is_none());
        assert!(cookies.session(&sent(&cookies.sign_out(&none()))).is_none());
        assert!(cookies.session(&sent(&header)).is_some());
    }

    #[test]
    fn a_notice_is_the_servers_own_and_opens_no_session() {
        let cookies = cookies("one", Secure::Never);
        let notice = Notice::new("2 letters discarded");
        let header = cookies.notice_cookie(&none(), &notice).unwrap();
        assert_eq!(cookies.notice(&sent(&header)), Some(notice.clone()));
        let forged = format!("{NOTICE}={}", String::from_utf8(notice.encoded()).unwrap());
        assert_eq!(cookies.notice(&sent(&forged)), None);
        let session = cookies.sign_in(&none(), &ada()).unwrap();
        assert_eq!(cookies.notice(&sent(&session.replacen("orderflow", NOTICE, 1))), None);
        assert!(cookies.session(&sent(&header.replacen(NOTICE, "orderflow", 1))).is_none());
    }

    #[test]
    fn behind_a_proxy_cookies_are_for_tls_if_the_browser_speaks_it() {
        let cookies = cookies("one", Secure::AsProxied);
        let proto = HeaderName::from_static("x-forwarded-proto");
        let forwarded =
            |value: &str| HeaderMap::from_iter([(proto.clone(), value.parse().unwrap())]);
        for value in ["https", "HTTPS, http"] {
            let header = cookies.sign_in(&forwarded(value), &ada()).unwrap();
            assert!(header.starts_with("__Host-") && header.ends_with("; Secure"), "{value}");
            let mut headers = sent(&header);
            assert!(cookies.session(&headers).is_none(), "it comes over plain http");
            headers.extend(forwarded(value));
            assert!(cookies.session(&headers).is_some());
        }
        for headers in [forwarded("http"), forwarded("http, https"), none()] {
            let header = cookies.sign_in(&headers, &ada()).unwrap();
            assert!(header.starts_with("orderflow=") && !header.contains("Secure"), "{header}");
        }
    }
}
