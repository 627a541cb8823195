use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; UUIDv7 (RFC 9562), so that ids made later sort later and indexes stay dense.
            #[must_use]
            #[allow(clippy::new_without_default)] // a default that differs each time would surprise
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id! {
    /// An order; the key of every order event, so that events of one order stay in order.
    OrderId
}
uuid_id! {
    /// An invoice.
    InvoiceId
}

/// A text that is no id of the kind asked for.
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
            #[doc = concat!("Takes a text that is ", $rule, ".")]
            pub fn new(text: impl Into<String>) -> Result<Self, TextIdError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(TextIdError { kind: $kind, rule: $rule })
                }
            }

            /// The id as text.
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
    /// An event's `id`: unique within its source (CloudEvents 1.0, "id"). Ours are UUIDv7;
    /// those of others are any text.
    EventId, "an event id", "1 to 256 bytes without control characters",
    |text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}
text_id! {
    /// Whose data it is.
    TenantId, "a tenant id", "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    }
}
text_id! {
    /// What one outside request set off, through every service: it is in every log line, header and row.
    /// Bounded and of plain characters, because it comes from outside and is written to logs.
    CorrelationId, "a correlation id", "1 to 128 letters, digits, or any of . _ : / + = @ -",
    |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/+=@-".contains(&b))
    }
}

impl EventId {
    /// A new id of ours.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }
}

impl CorrelationId {
    /// A new id, for a flow that begins here.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// For an event that came without one: its own id where that is fit to be one, so that
    /// every delivery of that event is found under the same correlation id.
    #[must_use]
    pub fn for_event(id: &EventId) -> Self {
        Self::new(id.as_str()).unwrap_or_else(|_| Self::generate())
    }
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
        let id = EventId::new("order-17/completed").expect("valid");
        assert_eq!(CorrelationId::for_event(&id).as_str(), "order-17/completed");
        let odd = EventId::new("ünïcode id").expect("ids of others are any text");
        assert!(CorrelationId::new(CorrelationId::for_event(&odd).as_str()).is_ok());
    }

    #[test]
    fn a_tenant_id_is_checked_when_read() {
        assert!(serde_json::from_str::<TenantId>("\"acme\"").is_ok());
        assert!(serde_json::from_str::<TenantId>("\"../acme\"").is_err());
    }
}
