#![doc = include_str!("../README.md")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The specification requires 24 to 64.
const SECRET_BYTES: usize = 32;

/// Returns a new secret, in the form that the receiver gets.
///
/// # Errors
/// If the system has no random numbers.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes)))
}

/// Returns the value of `webhook-signature`, or `None` if the secret is not one of Standard
/// Webhooks.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

/// Returns the value of `webhook-signature` while a secret is being replaced: one signature per
/// secret, in the same order. Returns `None` if no secret is usable.
pub fn sign_with_all<'a>(
    secrets: impl IntoIterator<Item = &'a str>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> Option<String> {
    let signatures = secrets.into_iter().filter_map(|secret| sign(secret, id, timestamp, body));
    let signatures = signatures.collect::<Vec<_>>().join(" ");
    (!signatures.is_empty()).then_some(signatures)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses the example of the specification's reference implementations.
    #[test]
    fn it_signs_as_others_do() {
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn several_secrets_sign_one_after_the_other() {
        let (new, old) = (new_secret().unwrap(), new_secret().unwrap());
        let of = |secret: &str| sign(secret, "1", 7, "{}").unwrap();
        let all = sign_with_all([new.as_str(), "none", &old], "1", 7, "{}");
        assert_eq!(all, Some(format!("{} {}", of(&new), of(&old))));
        assert_eq!(sign_with_all(["none"], "1", 7, "{}"), None);
    }

    #[test]
    fn each_secret_is_its_own() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(one, other);
        assert!(sign(&one, "1", 1, "{}").is_some() && sign("secret", "1", 1, "{}").is_none());
    }
}
