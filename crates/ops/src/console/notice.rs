//! The result of an action, shown once on the page that follows. It is stored in a sealed cookie,
//! so the server keeps no state.

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Fields;

/// Maximum size of the result in bytes: a browser's limit for a cookie less its attributes, before
/// sealing and base64.
const MOST: usize = 2_800;

/// The result of an action, and its undo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) is_bad: bool,
    #[serde(default)]
    pub(crate) undo: Option<Undo>,
}

/// A form that undoes an action. The page shows it as a button.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// The path on this server to which it is posted.
    pub(crate) action: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Notice {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_bad: false, undo: None }
    }

    /// Creates the result of an action that failed, or was not done completely.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self { is_bad: true, ..Self::new(text) }
    }

    /// Adds the undo, for which a long text is shortened. A form that is too large for a cookie is
    /// left out.
    pub(crate) fn undo(self, action: &str, fields: Vec<(String, String)>) -> Self {
        let undo = Some(Undo { action: action.to_owned(), fields });
        let mut offering = Self { undo, ..self.clone() };
        offering.shorten();
        if offering.encoded().len() <= MOST { offering } else { self }
    }

    fn shorten(&mut self) {
        if self.encoded().len() > MOST {
            self.text.truncate(self.text.floor_char_boundary(1_000));
        }
    }

    /// Redirects to the page that sent the form, else to `otherwise`. `access::require_session`
    /// turns the result in the response into a cookie.
    pub(crate) fn back(mut self, fields: &Fields, otherwise: &str) -> Response {
        self.shorten();
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
        let notice =
            Notice::new("2 letters discarded").undo("/undo", vec![("id".into(), "1".into())]);
        let fields = Fields::from(vec![("back".to_owned(), "/failures?group=a".to_owned())]);
        let response = notice.clone().back(&fields, "/failures");
        assert_eq!(response.headers()[header::LOCATION], "/failures?group=a");
        assert_eq!(response.extensions().get(), Some(&notice));
        assert_eq!(Notice::decoded(&notice.encoded()), Some(notice));
    }

    #[test]
    fn what_is_too_large_for_a_cookie_is_shortened() {
        let many = vec![("id".to_owned(), "x".repeat(40)); 100];
        let notice = Notice::bad("ü".repeat(5_000)).undo("/undo", many);
        assert_eq!(notice.undo, None);
        let response = notice.back(&Fields::default(), "/");
        let shown: &Notice = response.extensions().get().unwrap();
        assert_eq!(shown.text.chars().count(), 500);
        let few = vec![("id".to_owned(), "x".repeat(40)); 30];
        assert!(Notice::bad("ü".repeat(5_000)).undo("/undo", few).undo.is_some());
    }
}
