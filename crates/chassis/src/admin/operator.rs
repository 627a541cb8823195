use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::Admin;
use crate::http::Problem;

/// The operator, who may change something and see payloads. As an extractor it fails with 401 without the operator's token.
pub(super) struct Operator;

impl FromRequestParts<Admin> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let refuse = || {
            Problem::unauthorized("send the operator's token as Authorization: Bearer <token>")
                .with_header(header::WWW_AUTHENTICATE, "Bearer")
        };
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refuse)?;
        let token = admin.operator_token.as_ref().ok_or_else(|| {
            Problem::unauthorized("OPERATOR_TOKEN is not set, so nobody can change anything here")
        })?;
        // Digests, so that the time of the comparison tells nothing about the token.
        let same = Sha256::digest(given) == Sha256::digest(token.expose());
        if same { Ok(Self) } else { Err(refuse()) }
    }
}
