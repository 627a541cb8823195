use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

use crate::client::Token;

/// Encrypts and authenticates data that a browser stores for this server.
pub(super) struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    /// Derives the key from the secret, or else from the server's own token. Without either the key
    /// is random, and sealed data can't be opened after a restart.
    pub(super) fn new(secret: &str, own: &Token) -> Self {
        let random = SystemRandom::new();
        let mut drawn = [0; 32];
        let material = match (secret.trim(), &*own.0) {
            ("", "") => {
                // Without randomness nothing can be encrypted either.
                let _ = random.fill(&mut drawn);
                tracing::info!("sessions end with this process, set CONSOLE_SECRET to keep them");
                &drawn[..]
            }
            ("", own) => own.as_bytes(),
            (secret, _) => secret.as_bytes(),
        };
        Self { key: key_of(material), random }
    }

    /// Encrypts a text for a purpose; it can't be opened for another one. Returns `None` if the
    /// system has no randomness.
    pub(super) fn close(&self, purpose: &str, text: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let mut sealed = text.to_vec();
        self.key.seal_in_place_append_tag(unique, Aad::from(purpose), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Returns the text. Returns `None` if it was not sealed with this key for this purpose.
    pub(super) fn open(&self, purpose: &str, value: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let text = self.key.open_in_place(nonce, Aad::from(purpose), &mut sealed).ok()?;
        Some(text.to_vec())
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
