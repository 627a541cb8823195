use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a valid id of its kind.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} must be {rule}")]
pub struct TextIdError {
    kind: &'static str,
    rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Creates the id.
            ///
            /// # Errors
            #[doc = concat!("Fails unless the text is ", $rule, ".")]
            pub fn new(text: impl Into<String>) -> Result<Self, TextIdError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(TextIdError { kind: $kind, rule: $rule })
                }
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextIdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id! {
    /// An event's `id`: unique within its source (CloudEvents 1.0, "id"). This crate generates
    /// UUIDv7; other producers may use any text.
    EventId, "an event id", "1 to 256 bytes without control characters",
    |text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}
text_id! {
    /// The tenant that owns data.
    TenantId, "a tenant id", "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    }
}
text_id! {
    /// Identifies everything that one external request causes, across all services, in log lines,
    /// headers and rows. Bounded and restricted to plain characters, because it comes from outside
    /// and is logged.
    CorrelationId, "a correlation id", "1 to 128 letters, digits, or any of . _ : / + = @ -",
    |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/+=@-".contains(&b))
    }
}

impl EventId {
    /// Returns a new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }
}

impl CorrelationId {
    /// Returns a new id, for a flow that begins here.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// Returns the correlation id of an event without a usable one: the event's id if it is a valid
    /// correlation id, else a plain text derived from it. It is the same for every delivery of the
    /// event.
    #[must_use]
    pub fn for_event(id: &EventId) -> Self {
        Self::new(id.as_str()).unwrap_or_else(|_| Self(plain(id.as_str())))
    }
}

/// Returns the valid characters of an id, with a hash (FNV-1a) that distinguishes ids with the same
/// ones.
fn plain(id: &str) -> String {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let plain = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    format!("{}-{hash:016x}", plain.take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_is_bounded_and_plain() {
        assert!(CorrelationId::new("checkout-7f/3.a:b+c=@_").is_ok());
        for odd in ["", "a b", "a\nb", "é", "a\"b", &"x".repeat(129)] {
            assert!(CorrelationId::new(odd).is_err(), "{odd:?} was taken");
        }
    }

    #[test]
    fn an_event_without_correlation_gets_the_same_one_each_time() {
        let id = EventId::new("parcel-17/shipped").expect("valid");
        assert_eq!(CorrelationId::for_event(&id).as_str(), "parcel-17/shipped");
        let odd = EventId::new("ünïcode id").expect("ids of others are any text");
        let derived = CorrelationId::for_event(&odd);
        assert!(CorrelationId::new(derived.as_str()).is_ok(), "{derived}");
        assert_eq!(derived, CorrelationId::for_event(&odd));
        let other = EventId::new("änïcode id").expect("ids of others are any text");
        assert_ne!(derived, CorrelationId::for_event(&other));
    }

    #[test]
    fn a_tenant_id_is_checked_when_read() {
        assert!(serde_json::from_str::<TenantId>("\"acme\"").is_ok());
        assert!(serde_json::from_str::<TenantId>("\"../acme\"").is_err());
    }
}
