//! What an action did, shown once on the page that it leads back to. It travels in a cookie: the server keeps nothing.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Fields;

const COOKIE: &str = "orderflow-said";
/// What a browser takes as a cookie, less its attributes.
const MOST: usize = 3_800;

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

    /// Leads back to the page that sent the form, else to `otherwise`.
    pub(crate) fn back(mut self, fields: &Fields, otherwise: &str) -> Response {
        if self.encoded().len() > MOST {
            self.text.truncate(self.text.floor_char_boundary(1_000));
        }
        let cookie =
            format!("{COOKIE}={}; Path=/; Max-Age=60; HttpOnly; SameSite=Strict", self.encoded());
        ([(header::SET_COOKIE, cookie)], fields.back(otherwise)).into_response()
    }

    fn encoded(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Returns what the last action did, if this is the first page since.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let mut pairs =
            cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }

    /// The header by which it is not shown again.
    pub(super) const FORGET: &'static str =
        "orderflow-said=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(response: &Response) -> Option<Said> {
        let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let pair = cookie.split(';').next().unwrap();
        Said::of(&HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())]))
    }

    #[test]
    fn the_next_page_shows_it_and_the_way_back_keeps_its_filters() {
        let said = Said::new("2 letters discarded").undo("/undo", vec![("id".into(), "1".into())]);
        let fields = Fields::from(vec![("back".to_owned(), "/failures?group=a".to_owned())]);
        let response = said.clone().back(&fields, "/failures");
        assert_eq!(response.headers()[header::LOCATION], "/failures?group=a");
        assert_eq!(after(&response), Some(said));
    }

    #[test]
    fn what_is_too_large_for_a_cookie_is_shortened() {
        let many = vec![("id".to_owned(), "x".repeat(40)); 100];
        let said = Said::bad("ü".repeat(5_000)).undo("/undo", many);
        assert_eq!(said.undo, None);
        let shown = after(&said.back(&Fields::default(), "/")).unwrap();
        assert_eq!(shown.text.chars().count(), 500);
    }
}
