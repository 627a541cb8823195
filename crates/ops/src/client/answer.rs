use std::ops::Deref;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A response: the whole JSON, and the part that this version knows.
#[derive(Clone, Debug)]
pub(crate) struct Answer<T> {
    /// The whole JSON, for `--json`.
    pub(crate) json: Value,
    known: T,
}

impl<T> Answer<T> {
    /// Returns the part that this version knows.
    pub(crate) fn into_known(self) -> T {
        self.known
    }
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.known
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let known = T::deserialize(&json).map_err(D::Error::custom)?;
        Ok(Self { json, known })
    }
}
