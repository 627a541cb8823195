/// A completed order was {{verb}}.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct {{Event}} {
    /// The order as it was {{verb}}.
    #[serde(flatten)]
    pub order: Order,
    /// When, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub {{verb}}_at: OffsetDateTime,
}

