use std::fmt;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Redirect;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::PageError;

/// Maximum number of fields, several times the rows of a page and its filters. A field that was
/// sent as two bytes takes 80 in memory.
const MAX_FIELDS: usize = 256;

/// The fields of a form or of an address, in their order. A name may occur several times, for
/// example for selected rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Returns the first value of a name, trimmed. Returns `None` if it is missing or blank.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Returns all values of a name that are not blank.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.values(name).collect()
    }

    fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let those = self.0.iter().filter(move |(known, _)| known == name);
        those.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Returns `true` if a checkbox with that name is checked.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.one(name).is_some()
    }

    /// Returns the redirect after a change: to the field `back` if it is a path of this server,
    /// else to `otherwise`.
    pub(crate) fn back(&self, otherwise: &str) -> Redirect {
        Redirect::to(self.one("back").filter(|path| is_local(path)).unwrap_or(otherwise))
    }
}

/// Returns `true` for a path of this server. Browsers treat `//host` and `/\host` as another
/// server.
pub(crate) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Fails if there are more than [`MAX_FIELDS`].
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_FIELDS} names with values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = pairs.next_element()? {
            if fields.len() == MAX_FIELDS {
                return Err(A::Error::invalid_length(MAX_FIELDS + 1, &self));
            }
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// Reads the fields of an address.
impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        let query = Query::<Self>::try_from_uri(&parts.uri);
        // Names and values may be any text, so only their number can be wrong.
        query.map(|Query(fields)| fields).map_err(|_| {
            PageError::usage(format!("The address has more than {MAX_FIELDS} fields."))
        })
    }
}

/// The fields of a form that was sent by POST.
pub(crate) struct Sent(pub(crate) Fields);

/// Fails with 413 if the form is longer than the route's `DefaultBodyLimit`, or has more than
/// [`MAX_FIELDS`].
impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = (StatusCode, PageError);

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let form = Form::<Fields>::from_request(request, state).await;
        form.map(|Form(fields)| Self(fields)).map_err(|error| {
            let message = match error {
                FormRejection::FailedToDeserializeFormBody(_) => {
                    format!("The form has more than {MAX_FIELDS} fields. Select fewer rows.")
                }
                error if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                    "The form is too long. Shorten its longest field, then try again.".to_owned()
                }
                error => return (StatusCode::BAD_REQUEST, PageError::usage(error.to_string())),
            };
            (StatusCode::PAYLOAD_TOO_LARGE, PageError::usage(message))
        })
    }
}

impl From<Vec<(String, String)>> for Fields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header;

    use super::*;

    /// Sends a form. Returns its fields, or the status and the text of the refusal.
    async fn sent(form: String) -> Result<Fields, (StatusCode, String)> {
        let request = axum::http::Request::post("/")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let sent = Sent::from_request(request, &()).await;
        sent.map(|Sent(fields)| fields).map_err(|(status, error)| (status, error.message))
    }

    #[tokio::test]
    async fn a_form_has_room_for_a_page_of_rows_and_not_for_endless_fields() {
        let rows = "letter=billing/7/billing&".repeat(100);
        let fields = sent(rows + "reason=timeout&why=because").await.unwrap();
        assert_eq!((fields.all("letter").len(), fields.one("why")), (100, Some("because")));
        for (form, expected) in
            [("a&".repeat(100_000), "more than 256 fields"), ("a".repeat(3_000_000), "too long")]
        {
            let (status, text) = sent(form).await.unwrap_err();
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_way_back_leads_to_this_server() {
        for path in ["/", "/failures?group=billing&status=dead", "/flow?q=%C3%A4"] {
            assert!(is_local(path), "{path}");
        }
        for path in ["", "//evil", "/\\evil", "https://evil", "failures", "/\t/evil", "/a b", "/\n"]
        {
            assert!(!is_local(path), "{path:?}");
        }
    }
}
