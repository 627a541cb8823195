use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json as Body, Router};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Admin;
use crate::http::{Problem, bearer};

/// Name of the operator whose token is `OPERATOR_TOKEN`.
const UNNAMED: &str = "operator";

/// Names of the operators, and digests of their tokens. How long it takes to compare digests says nothing about a token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators(Vec<(String, [u8; 32])>);

/// A list of operators that can't be used. Tokens are not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorsError {
    #[error("entry {0} is not of the form name=token")]
    Entry(usize),
    #[error("the name {0} is there twice")]
    Twice(String),
    #[error("{0} and {1} have the same token, so that nobody can tell who did what")]
    SameToken(String, String),
}

impl Operators {
    /// Reads `name=token,..`, and adds the operator without a name, if there is one.
    pub(crate) fn read(named: &str, unnamed: Option<&str>) -> Result<Self, OperatorsError> {
        let mut operators = Self::default();
        let entries = named.split(',').map(str::trim).enumerate();
        for (at, entry) in entries.filter(|(_, entry)| !entry.is_empty()) {
            let (name, token) = entry.split_once('=').ok_or(OperatorsError::Entry(at + 1))?;
            let (name, token) = (name.trim(), token.trim());
            if name.is_empty() || token.is_empty() {
                return Err(OperatorsError::Entry(at + 1));
            }
            operators.add(name, token)?;
        }
        if let Some(token) = unnamed.map(str::trim).filter(|token| !token.is_empty()) {
            operators.add(UNNAMED, token)?;
        }
        Ok(operators)
    }

    fn add(&mut self, name: &str, token: &str) -> Result<(), OperatorsError> {
        if self.0.iter().any(|(known, _)| known == name) {
            return Err(OperatorsError::Twice(name.to_owned()));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some((other, _)) = self.0.iter().find(|(_, known)| *known == digest) {
            return Err(OperatorsError::SameToken(other.clone(), name.to_owned()));
        }
        self.0.push((name.to_owned(), digest));
        Ok(())
    }

    fn of_token(&self, token: &str) -> Option<&str> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.iter().find(|(_, known)| *known == digest).map(|(name, _)| &**name)
    }
}

/// Tells whose token a request has, so that a sign-in can be refused before anything is done.
pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/operator", get(async |operator: Operator| Body(operator)))
}

/// The operator, who may change something and see payloads. As an extractor it fails with 401 without an operator's token.
#[derive(Serialize)]
pub(super) struct Operator {
    pub(super) name: String,
}

impl FromRequestParts<Admin> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let refuse = || {
            Problem::unauthorized("send an operator's token as Authorization: Bearer <token>")
                .with_header(header::WWW_AUTHENTICATE, "Bearer")
        };
        if admin.operators.0.is_empty() {
            return Err(Problem::unauthorized(
                "OPERATOR_TOKENS is not set, so nobody can change anything here",
            ));
        }
        let token = bearer(&parts.headers).ok_or_else(refuse)?;
        let name = admin.operators.of_token(token).ok_or_else(refuse)?;
        Ok(Self { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_known_by_the_token() {
        let operators = Operators::read(" ada=one, grace=two=2,", Some("three")).expect("read");
        let names = ["one", "two=2", "three", "", "four"].map(|token| operators.of_token(token));
        assert_eq!(names, [Some("ada"), Some("grace"), Some("operator"), None, None]);
    }

    #[test]
    fn a_list_that_is_wrong_is_refused_without_its_tokens() {
        for (list, says) in [
            ("ada=secret,secret", "entry 2"),
            ("=secret", "entry 1"),
            ("ada=", "entry 1"),
            ("ada=secret,ada=other", "ada is there twice"),
        ] {
            let error = Operators::read(list, None).expect_err(list).to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{list}: {error}");
        }
        assert!(Operators::read("operator=one", Some("two")).is_err());
        assert!(Operators::read("ada=one,grace=one", None).is_err());
    }
}
