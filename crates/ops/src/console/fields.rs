use axum::extract::{Form, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::response::Redirect;

use super::PageError;

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

/// Reads the fields of an address.
impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        query.map(|Query(fields)| Self(fields)).map_err(|error| PageError::usage(error.to_string()))
    }
}

/// The fields of a form that was sent by POST.
pub(crate) struct Sent(pub(crate) Fields);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        form.map(|Form(fields)| Self(Fields(fields)))
            .map_err(|error| PageError::usage(error.to_string()))
    }
}

impl From<Vec<(String, String)>> for Fields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
