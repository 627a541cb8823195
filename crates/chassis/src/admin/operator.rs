use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json as Body, Router};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::entries::entries;
use crate::http::{Problem, bearer};
use crate::live_file::{LiveFile, Reload};

/// Name of the operator whose token is `OPERATOR_TOKEN`.
const UNNAMED: &str = "operator";

/// Names of the operators with digests of their tokens. The time of comparing digests reveals
/// nothing about a token. Clones share the list.
#[derive(Clone, Debug)]
pub(crate) struct Operators {
    current: Arc<RwLock<List>>,
    file: Option<LiveFile>,
    unnamed: Option<Digest256>,
}

type Digest256 = [u8; 32];
type List = Vec<(String, Digest256)>;

/// Why a list of operators is invalid. Tokens are not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorsError {
    #[error("the file {0} can't be read: {1}")]
    File(PathBuf, std::io::Error),
    #[error("the file names no operator; leave out OPERATOR_TOKENS if there are none")]
    Empty,
    #[error("entry {0} is not of the form name=token")]
    Entry(usize),
    #[error("the name {0} is listed twice")]
    Twice(String),
    #[error("operators must have different tokens: {0} and {1} have the same")]
    SameToken(String, String),
}

impl Operators {
    /// Reads `name=token,..`, or `@file` with one entry per line, and adds the operator without a
    /// name if there is one.
    pub(crate) fn read(named: &str, unnamed: Option<&str>) -> Result<Self, OperatorsError> {
        let unnamed = unnamed.map(str::trim).filter(|token| !token.is_empty()).map(digest);
        let (list, file) = match named.strip_prefix('@').map(LiveFile::open) {
            Some((Ok(text), file)) => (parse_file(&text, unnamed)?, Some(file)),
            Some((Err(error), file)) => {
                return Err(OperatorsError::File(file.path().to_owned(), error));
            }
            None => (parse(named, unnamed)?, None),
        };
        Ok(Self { current: Arc::new(RwLock::new(list)), file, unnamed })
    }

    /// Reloads the file on changes and on request. Keeps the old list if the new one is invalid.
    pub(crate) async fn keep_current(mut self, reload: Reload, shutdown: CancellationToken) {
        let Some(file) = self.file.take() else { return };
        file.keep_current("OPERATOR_TOKENS", reload, shutdown, |text| self.replace(text)).await;
    }

    /// Replaces the list with the one in a text. Returns the number of operators.
    fn replace(&self, text: &str) -> Result<usize, OperatorsError> {
        let list = parse_file(text, self.unnamed)?;
        let count = list.len();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(count)
    }

    fn is_empty(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn of_token(&self, token: &str) -> Option<String> {
        let digest = digest(token);
        let list = self.current.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().find(|(_, known)| *known == digest).map(|(name, _)| name.clone())
    }
}

fn digest(token: &str) -> Digest256 {
    Sha256::digest(token).into()
}

/// Reads a file's list. Fails if it is empty: it was probably truncated or is not written yet, and
/// would lock out all operators.
fn parse_file(text: &str, unnamed: Option<Digest256>) -> Result<List, OperatorsError> {
    if parse(text, None)?.is_empty() {
        return Err(OperatorsError::Empty);
    }
    parse(text, unnamed)
}

fn parse(named: &str, unnamed: Option<Digest256>) -> Result<List, OperatorsError> {
    let mut list = List::new();
    for (number, entry) in (1..).zip(entries(named)) {
        let (name, token) = entry.split_once('=').ok_or(OperatorsError::Entry(number))?;
        let (name, token) = (name.trim(), token.trim());
        if name.is_empty() || token.is_empty() {
            return Err(OperatorsError::Entry(number));
        }
        add(&mut list, name, digest(token))?;
    }
    if let Some(unnamed) = unnamed {
        add(&mut list, UNNAMED, unnamed)?;
    }
    Ok(list)
}

fn add(list: &mut List, name: &str, digest: Digest256) -> Result<(), OperatorsError> {
    if list.iter().any(|(known, _)| known == name) {
        return Err(OperatorsError::Twice(name.to_owned()));
    }
    if let Some((other, _)) = list.iter().find(|(_, known)| *known == digest) {
        return Err(OperatorsError::SameToken(other.clone(), name.to_owned()));
    }
    list.push((name.to_owned(), digest));
    Ok(())
}

/// Builds the route that returns the operator of a token, so that a sign-in can be refused early.
pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/operator", get(async |operator: Operator| Body(operator)))
}

/// Returns the problem of a request without an operator's token.
pub(super) fn unauthorized(detail: &'static str) -> Problem {
    Problem::unauthorized(detail).with_header(header::WWW_AUTHENTICATE, "Bearer")
}

/// An operator, who may make changes and see payloads. As an extractor it fails with 401 without an
/// operator's token.
#[derive(Serialize)]
pub(super) struct Operator {
    pub(super) name: String,
}

impl FromRequestParts<Admin> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let refuse = || unauthorized("send an operator's token as Authorization: Bearer <token>");
        if admin.operators.is_empty() {
            return Err(Problem::unauthorized(
                "changes are disabled, since OPERATOR_TOKENS is not set",
            ));
        }
        let token = bearer(&parts.headers).ok_or_else(refuse)?;
        let name = admin.operators.of_token(token).ok_or_else(refuse)?;
        Ok(Self { name })
    }
}

/// Returns `None` without an operator's token, for routes that show more with one.
impl OptionalFromRequestParts<Admin> for Operator {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        admin: &Admin,
    ) -> Result<Option<Self>, Infallible> {
        let operator = <Self as FromRequestParts<Admin>>::from_request_parts(parts, admin).await;
        Ok(operator.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_known_by_the_token() {
        let operators = Operators::read(" ada=one, grace=two=2,", Some("three")).expect("read");
        let names = ["one", "two=2", "three", "", "four"].map(|token| operators.of_token(token));
        let names = names.each_ref().map(Option::as_deref);
        assert_eq!(names, [Some("ada"), Some("grace"), Some("operator"), None, None]);
    }

    #[test]
    fn a_list_that_is_wrong_is_refused_without_its_tokens() {
        for (list, expected) in [
            ("ada=secret,secret", "entry 2"),
            ("=secret", "entry 1"),
            ("ada=", "entry 1"),
            ("ada=secret,ada=other", "ada is listed twice"),
        ] {
            let error = Operators::read(list, None).expect_err(list).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{list}: {error}");
        }
        assert!(Operators::read("operator=one", Some("two")).is_err());
        assert!(Operators::read("ada=one,grace=one", None).is_err());
    }

    #[test]
    fn a_file_without_operators_locks_nobody_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("operators");
        std::fs::write(&file, "ada=one\n").expect("written");
        let listed = format!("@{}", file.display());
        let operators = Operators::read(&listed, Some("two")).expect("read");
        for text in ["", "# ours\n", "ada\n"] {
            assert!(operators.replace(text).is_err(), "{text:?}");
            assert_eq!(operators.of_token("one").as_deref(), Some("ada"), "{text:?}");
        }
        assert_eq!(operators.replace("grace=three\n").ok(), Some(2));
        assert_eq!(operators.of_token("one"), None);
        std::fs::write(&file, "# ours\n").expect("written");
        assert!(Operators::read(&listed, None).is_err());
    }
}
