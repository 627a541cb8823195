//! `Idempotency-Key`
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>):
//! a POST that is sent again takes effect once, and gets the same answer.
//!
//! A change of one statement binds the columns of [`Row`] into it. A change in a transaction calls
//! [`IdempotencyKey::claim`] first and [`Row::keep`] last.

use std::collections::BTreeMap;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use envelope::TenantId;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::problem::Problem;

const HEADER: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;
const PRUNED_AT_ONCE: u32 = 5_000;
/// Maximum number of answers that a statement searches for an address.
const ERASED_AT_ONCE: i64 = 2_000;
/// Seed of the advisory locks of keys ("idem"), which keeps them apart from other locks on a hash
/// of the same text.
const LOCK_SEED: i64 = 0x6964_656d;
/// Retention of answers.
const KEPT: &str = "24 hours";

/// The caller's key, with a fingerprint of the request that it was sent with.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    key: String,
    fingerprint: Vec<u8>,
}

/// A response that can be stored and repeated.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Status of the response.
    pub status: StatusCode,
    /// JSON.
    body: String,
    headers: BTreeMap<String, String>,
}

/// Columns to bind into the statement of the change, so that change and key are written together:
/// `insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
/// values ($1::text, $2::text, $3::bytea, $4::smallint, $5::text::json, $6::text::json)`.
/// If the key has an answer already, the statement fails with a violation that
/// [`IdempotencyKey::is_taken`] recognises; with `on conflict do nothing returning` it can leave
/// out the change instead.
#[derive(Debug)]
pub struct Row<'a> {
    /// `text`
    pub tenant_id: &'a str,
    /// `text`
    pub key: &'a str,
    /// `bytea`
    pub fingerprint: &'a [u8],
    /// `smallint`
    pub status: i16,
    /// `text` of a JSON object, not `jsonb`, which Postgres would write as text and parse again.
    pub headers: String,
    /// `text` of a JSON value.
    pub body: &'a str,
}

/// Describes the header.
impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        let schema = schema.min_length(Some(1)).max_length(Some(MAX_KEY_BYTES));
        let description = "Chosen by the caller. A repeated request with the same key takes effect once and gets the \
                           same response, within 24 hours.";
        let header =
            ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
        let header = header.required(Required::False).description(Some(description));
        vec![header.schema(Some(schema)).build()]
    }
}

impl IdempotencyKey {
    /// Returns the key of a request, or `None` if it has none.
    pub(crate) fn of(parts: &Parts, body: &[u8]) -> Result<Option<Self>, Problem> {
        let Some(value) = parts.headers.get(HEADER) else { return Ok(None) };
        let key = value.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
        let key = key.ok_or_else(|| {
            Problem::bad_request(format!(
                "Idempotency-Key must be 1 to {MAX_KEY_BYTES} printable ASCII characters"
            ))
        })?;
        let mut hash = Sha256::new();
        for part in [parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Some(Self { key: key.to_owned(), fingerprint: hash.finalize().to_vec() }))
    }

    /// Returns the key as the caller sent it.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// Returns the stored answer of this key, or `None` if there is none.
    ///
    /// # Errors
    /// Fails with 422 if the key was used for another request.
    pub async fn earlier(
        &self,
        pool: &PgPool,
        tenant: &TenantId,
    ) -> Result<Option<Answer>, Problem> {
        self.find(&mut *pool.acquire().await?, tenant).await
    }

    /// Reserves the key for the transaction of `connection`; call it before any change. Returns the
    /// stored answer of the key, or `None` if the transaction is to make the change, store its
    /// answer with [`Row::keep`] and commit. A request with the same key waits until this
    /// transaction has ended.
    ///
    /// # Errors
    /// Fails with 409 if that takes longer than the lock time-out, and with 422 if the key was used
    /// for another request. If the future is dropped, roll the transaction back.
    pub async fn claim(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
    ) -> Result<Option<Answer>, Problem> {
        // A separate statement, so that the next one sees what was committed during the wait.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended($1 || E'\\n' || $2, $3))")
            .bind(tenant.as_str())
            .bind(&self.key)
            .bind(LOCK_SEED)
            .execute(&mut *connection)
            .await?;
        self.find(connection, tenant).await
    }

    async fn find(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
    ) -> Result<Option<Answer>, Problem> {
        type Stored = (Vec<u8>, i16, Json<BTreeMap<String, String>>, String);
        let stored: Option<Stored> = sqlx::query_as(
            "select fingerprint, status, headers, body::text from idempotency_key where tenant_id = $1 and key = $2",
        )
        .bind(tenant.as_str())
        .bind(&self.key)
        .fetch_optional(connection)
        .await?;
        let Some((fingerprint, status, Json(headers), body)) = stored else {
            return Ok(None);
        };
        if fingerprint != self.fingerprint {
            return Err(Problem::unprocessable(
                "this Idempotency-Key was used for another request; send each request with a new key",
            ));
        }
        let status =
            u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Some(Answer { status: status.unwrap_or(StatusCode::OK), headers, body }))
    }

    /// Returns the row that stores `answer` for this key.
    pub fn row<'a>(&'a self, tenant: &'a TenantId, answer: &'a Answer) -> Row<'a> {
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Row {
            tenant_id: tenant.as_str(),
            key: &self.key,
            fingerprint: &self.fingerprint,
            status: i16::try_from(answer.status.as_u16()).unwrap_or_default(),
            headers: headers.collect::<Value>().to_string(),
            body: &answer.body,
        }
    }

    /// Returns `true` if a statement failed because the key has an answer already. The statement
    /// then had no effect, and [`earlier`](Self::earlier) returns that answer.
    pub fn is_taken(error: &sqlx::Error) -> bool {
        error.as_database_error().and_then(|error| error.constraint())
            == Some("idempotency_key_pkey")
    }
}

impl Row<'_> {
    /// Stores the answer in the transaction of `connection`, or at once if there is none.
    ///
    /// # Errors
    /// Fails with a violation that [`IdempotencyKey::is_taken`] recognises if the key has an answer
    /// already.
    pub async fn keep(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
             values ($1::text, $2::text, $3::bytea, $4::smallint, $5::text::json, $6::text::json)",
        )
        .bind(self.tenant_id)
        .bind(self.key)
        .bind(self.fingerprint)
        .bind(self.status)
        .bind(&self.headers)
        .bind(self.body)
        .execute(connection)
        .await?;
        Ok(())
    }
}

impl Answer {
    /// Creates an answer without headers.
    ///
    /// # Errors
    /// Fails with 500 if the body can't be written as JSON.
    pub fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_string(body).map_err(Problem::internal)?;
        Ok(Self { status, body, headers: BTreeMap::new() })
    }

    /// Adds a header. Its value must be printable ASCII.
    #[must_use]
    pub fn header(mut self, name: &HeaderName, value: impl Into<String>) -> Self {
        self.headers.insert(name.as_str().to_owned(), value.into());
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, content_type, self.body).into_response();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
            {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Deletes answers that are older than a day.
pub(crate) async fn prune(pool: PgPool) -> sqlx::Result<()> {
    pg::delete_oldest(&pool, PRUNED_AT_ONCE, |from, limit| {
        sqlx::query_as(
            "with old as materialized (
                 select ctid, created_at from idempotency_key
                 where created_at >= coalesce($1, '-infinity') and created_at < now() - $2::interval
                 order by created_at limit $3
             ), gone as (
                 delete from idempotency_key where ctid = any (array(select ctid from old))
             )
             select count(*) as rows, max(created_at) as until from old",
        )
        .bind(from)
        .bind(KEPT)
        .bind(limit)
    })
    .await
    .map(drop)
}

/// Erases an e-mail address, ignoring case, from the answers, chunk by chunk, since there may be
/// millions. Their keys stay, so a repeated request still has no effect.
pub(crate) async fn erase(pool: &PgPool, address: &str) -> sqlx::Result<()> {
    let pattern = pg::address_pattern(address, pg::AddressIn::Text);
    let mut after = Some((String::new(), String::new()));
    while let Some((tenant, key)) = after {
        after = sqlx::query_as(
            "with chunk as materialized (
                 select tenant_id, key, body from idempotency_key
                 where (tenant_id, key) > ($2, $3) order by tenant_id, key limit $4
             ), erased as (
                 update idempotency_key it
                 set body = regexp_replace(it.body::text, $1, '(erased)', 'gi')::json
                 from chunk
                 where it.tenant_id = chunk.tenant_id and it.key = chunk.key and chunk.body::text ~* $1
             )
             select tenant_id, key from chunk order by tenant_id desc, key desc limit 1",
        )
        .bind(&pattern)
        .bind(tenant)
        .bind(key)
        .bind(ERASED_AT_ONCE)
        .fetch_optional(pool)
        .await?;
    }
    Ok(())
}
