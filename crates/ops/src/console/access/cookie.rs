//! The cookie of a session.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

use super::Session;
use crate::client::Token;

/// How long an operator stays signed in: a shift.
const LIFE: Duration = Duration::from_hours(12);

/// Writes and reads the cookies.
pub(super) struct Cookies {
    key: LessSafeKey,
    random: SystemRandom,
    is_secure: bool,
}

impl Cookies {
    /// Derives the key from the secret, else from the server's own token. Without either it is random, and a restart ends all
    /// sessions.
    pub(super) fn new(secret: &str, own: &Token, is_secure: bool) -> Self {
        let random = SystemRandom::new();
        let mut drawn = [0; 32];
        let material = match (secret.trim(), &*own.0) {
            ("", "") => {
                // Without randomness nothing could be encrypted either.
                let _ = random.fill(&mut drawn);
                tracing::info!("sessions end with this process; CONSOLE_SECRET keeps them");
                &drawn[..]
            }
            ("", own) => own.as_bytes(),
            (secret, _) => secret.as_bytes(),
        };
        Self { key: key_of(material), random, is_secure }
    }

    fn name(&self) -> &'static str {
        // The prefix makes browsers insist on `Secure` and this host.
        if self.is_secure { "__Host-orderflow" } else { "orderflow" }
    }

    /// Returns the header that signs somebody in. `None` if the system has no randomness.
    pub(super) fn sign_in(&self, session: &Session) -> Option<String> {
        let until = (SystemTime::now() + LIFE).duration_since(UNIX_EPOCH).ok()?.as_secs();
        let name = session.name().unwrap_or_default();
        let mut sealed = format!("{until}\n{name}\n{}", session.token().0).into_bytes();
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed).ok()?;
        let value = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Some(self.header(&value, LIFE))
    }

    /// Returns the header that signs somebody out.
    pub(super) fn sign_out(&self) -> String {
        self.header("", Duration::ZERO)
    }

    fn header(&self, value: &str, life: Duration) -> String {
        let (name, age) = (self.name(), life.as_secs());
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Returns the session of a request's cookie, if it is one of ours and not too old.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let pairs = cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == self.name());
        values.find_map(|(_, value)| self.open(value))
    }

    fn open(&self, value: &str) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let text = self.key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        let mut parts = std::str::from_utf8(text).ok()?.splitn(3, '\n');
        let (until, name, token) = (parts.next()?, parts.next()?, parts.next()?);
        let until = UNIX_EPOCH + Duration::from_secs(until.parse().ok()?);
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        (SystemTime::now() < until).then(|| Session::signed_in(Token(token.to_owned()), name))
    }
}

fn key_of(material: &[u8]) -> LessSafeKey {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"orderflow console");
    let pseudorandom = salt.extract(material);
    match pseudorandom.expand(&[b"session 1"], &CHACHA20_POLY1305) {
        Ok(expanded) => LessSafeKey::new(UnboundKey::from(expanded)),
        Err(error) => unreachable!("a key is shorter than 255 digests: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(secret: &str, is_secure: bool) -> Cookies {
        Cookies::new(secret, &Token::default(), is_secure)
    }

    fn sent(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("a=b; {pair}").parse().unwrap())])
    }

    fn ada() -> Session {
        Session::signed_in(Token("secret".into()), Some("ada".into()))
    }

    #[test]
    fn a_session_outlives_a_restart_with_the_same_secret_only() {
        let header = cookies("one", false).sign_in(&ada()).unwrap();
        assert!(!header.contains("secret"), "{header}");
        let session = cookies("one", false).session(&sent(&header)).unwrap();
        assert_eq!((session.name(), &*session.token().0), (Some("ada"), "secret"));
        assert!(cookies("two", false).session(&sent(&header)).is_none());
        assert!(cookies("", false).session(&sent(&header)).is_none());
    }

    #[test]
    fn a_cookie_that_was_changed_is_none() {
        let cookies = cookies("one", true);
        let header = cookies.sign_in(&ada()).unwrap();
        assert!(header.starts_with("__Host-orderflow=") && header.ends_with("; Secure"));
        let changed = header.replacen("orderflow=", "orderflow=A", 1);
        assert!(cookies.session(&sent(&changed)).is_none());
        assert!(cookies.session(&sent(&cookies.sign_out())).is_none());
        assert!(cookies.session(&sent(&header)).is_some());
    }
}
