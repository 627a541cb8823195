//! Acts of operators.

use serde::Deserialize;

use super::{Client, Listed, Listing};

/// An act of an operator.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Act {
    pub(crate) service: String,
    pub(crate) at: String,
    pub(crate) by: String,
    /// Kind of the act, such as `jobs.retry`.
    #[serde(rename = "act")]
    pub(crate) kind: String,
    pub(crate) target: String,
    pub(crate) why: Option<String>,
    /// `None` while the act is being executed, and forever if the service crashed meanwhile.
    pub(crate) outcome: Option<String>,
}

impl Listed for Act {
    const PLURAL: &'static str = "acts";
    const NAMES_SERVICE: bool = true;

    fn at(&self) -> &str {
        &self.at
    }
}

impl Client {
    /// Lists acts, newest first: all, or those of one operator.
    pub(crate) fn acts(&self, by: Option<&str>) -> Listing<Act> {
        let query = by.map(|by| ("by", by.to_owned())).into_iter().collect();
        Listing::new(self.clone(), "acts".into(), query)
    }
}
