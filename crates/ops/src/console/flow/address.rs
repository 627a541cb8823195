//! The address of a flow's page: the id, the open step, and whether each step is shown.

use super::Fields;
use crate::console::address::escaped;

/// The parts of the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A correlation id, a subject or an event id.
    pub(super) id: String,
    /// The key of the open step.
    pub(super) step: Option<String>,
    /// Whether repeated steps are shown one by one.
    pub(super) shows_all: bool,
}

impl Address {
    /// Returns `None` without an id.
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        let id = fields.one("q")?.to_owned();
        let step = fields.one("step").map(ToOwned::to_owned);
        Some(Self { id, step, shows_all: fields.one("steps") == Some("all") })
    }

    /// Returns the address of this page.
    pub(super) fn here(&self) -> String {
        let step = self.step.as_ref().map(|it| format!("&step={}", escaped(it)));
        format!("{}{}", self.flow(), step.unwrap_or_default())
    }

    /// Returns the address with no step open.
    pub(super) fn flow(&self) -> String {
        let all = if self.shows_all { "&steps=all" } else { "" };
        format!("{}{all}", of_id(&self.id))
    }

    /// Returns the address of a step without its key.
    pub(super) fn to_step(&self) -> String {
        format!("{}&step=", self.flow())
    }

    /// Returns the address with repeated steps shown one by one or counted: the other of the two.
    pub(super) fn turned(&self) -> String {
        Self { shows_all: !self.shows_all, ..self.clone() }.here()
    }
}

/// Returns the address of a flow.
pub(super) fn of_id(id: &str) -> String {
    format!("/flow?q={}", escaped(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(fields: &[(&str, &str)]) -> Option<Address> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Address::of(&fields.into())
    }

    #[test]
    fn what_the_page_shows_is_in_its_address() {
        let all = address(&[("q", " a&b/ü "), ("step", "0f"), ("steps", "all")]).unwrap();
        assert_eq!(all.here(), "/flow?q=a%26b%2F%C3%BC&steps=all&step=0f");
        assert_eq!(all.turned(), "/flow?q=a%26b%2F%C3%BC&step=0f");
        assert_eq!(all.to_step(), "/flow?q=a%26b%2F%C3%BC&steps=all&step=");
        assert_eq!(address(&[("q", "  ")]), None);
    }
}
