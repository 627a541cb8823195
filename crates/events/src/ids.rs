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
            /// Returns a new UUIDv7 (RFC 9562). Newer ids sort after older ones, which keeps
            /// indexes dense.
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
    /// Id of an order, and key of all order events, so that the events of an order stay in order.
    OrderId
}
uuid_id! {
    /// Id of an invoice.
    InvoiceId
}
uuid_id! {
    /// Id of a credit note.
    CreditNoteId
}
