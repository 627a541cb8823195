//! Event types of the tests.

use std::borrow::Cow;
use std::fmt;

use envelope::{Event, Schema};
use serde::{Deserialize, Serialize};

/// Id of a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ParcelId(u128);

impl ParcelId {
    pub(crate) fn new() -> Self {
        Self(fastrand::u128(..))
    }
}

impl fmt::Display for ParcelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P-{:032x}", self.0)
    }
}

/// A parcel, as every event of it carries it.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Parcel {
    pub(crate) number: String,
    pub(crate) owner: String,
    pub(crate) email: String,
}

pub(crate) trait ParcelEvent: Event + From<Parcel> {
    fn parcel(&self) -> &Parcel;
}

macro_rules! parcel_events {
    ($($name:ident $event_type:literal),*) => {$(
        #[derive(Clone, Serialize, Deserialize, Debug)]
        #[serde(transparent)]
        pub(crate) struct $name(Parcel);

        impl From<Parcel> for $name {
            fn from(parcel: Parcel) -> Self {
                Self(parcel)
            }
        }

        impl ParcelEvent for $name {
            fn parcel(&self) -> &Parcel {
                &self.0
            }
        }

        impl Event for $name {
            const TYPE: &'static str = $event_type;
            const SCHEMA: &'static Schema = {
                static SCHEMA: Schema = Schema::new(concat!(
                    r#"{ "$id": "https://example.com/"#, $event_type, r#"/1.0.json", "type": "object" }"#
                ));
                &SCHEMA
            };

            fn subject(&self) -> Cow<'_, str> {
                self.0.number.as_str().into()
            }

            fn tenant(&self) -> Option<&str> {
                Some(&self.0.owner)
            }
        }
    )*};
}

parcel_events!(ParcelPacked "parcel.packed", ParcelShipped "parcel.shipped");
