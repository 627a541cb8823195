//! What an action did, shown once on the page that it leads back to. It travels in a sealed cookie: the server keeps nothing.

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Fields;

/// What a browser takes as a cookie, less its attributes, as bytes before they are sealed and written in base64.
const MOST: usize = 2_800;

/// What was done, and how to undo it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) is_bad: bool,
    #[serde(default)]
    pub(crate) undo: Option<Undo>,
}

/// A form that undoes it. The page shows it as a button.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// Where it is posted: a path of this server.
    pub(crate) action: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Said {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_bad: false, undo: None }
    }

    /// Says that something was not done, or not all of it.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self { is_bad: true, ..Self::new(text) }
    }

    /// Offers to undo it. A form that is too large for a cookie is not offered.
    pub(crate) fn undo(self, action: &str, fields: Vec<(String, String)>) -> Self {
        let undo = Some(Undo { action: action.to_owned(), fields });
        let offering = Self { undo, ..self.clone() };
        if offering.encoded().len() <= MOST { offering } else { self }
    }

    /// Leads back to the page that sent the form, else to `otherwise`. `access::require_session` makes the cookie of what the
    /// response carries.
    pub(crate) fn back(mut self, fields: &Fields, otherwise: &str) -> Response {
        if self.encoded().len() > MOST {
            self.text.truncate(self.text.floor_char_boundary(1_000));
        }
        let mut response = fields.back(otherwise).into_response();
        response.extensions_mut().insert(self);
        response
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decoded(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    #[test]
    fn the_next_page_shows_it_and_the_way_back_keeps_its_filters() {
        let said = Said::new("2 letters discarded").undo("/undo", vec![("id".into(), "1".into())]);
        let fields = Fields::from(vec![("back".to_owned(), "/failures?group=a".to_owned())]);
        let response = said.clone().back(&fields, "/failures");
        assert_eq!(response.headers()[header::LOCATION], "/failures?group=a");
        assert_eq!(response.extensions().get(), Some(&said));
        assert_eq!(Said::decoded(&said.encoded()), Some(said));
    }

    #[test]
    fn what_is_too_large_for_a_cookie_is_shortened() {
        let many = vec![("id".to_owned(), "x".repeat(40)); 100];
        let said = Said::bad("ü".repeat(5_000)).undo("/undo", many);
        assert_eq!(said.undo, None);
        let response = said.back(&Fields::default(), "/");
        let shown: &Said = response.extensions().get().unwrap();
        assert_eq!(shown.text.chars().count(), 500);
    }
}
