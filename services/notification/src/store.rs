use consumer::Received;
use events::{Envelope, Event, OrderId, TenantId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use crate::letter::Letter;
use crate::mailer::SendError;

/// The longest part of an error that is kept.
const ERROR_CHARS: usize = 1000;

/// An e-mail as a tenant sees it.
#[derive(sqlx::FromRow, Serialize)]
pub(crate) struct Email {
    pub(crate) kind: String,
    #[serde(rename = "to")]
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) message_id: String,
    /// `waiting`, `sent` or `failed`.
    pub(crate) status: String,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) sent_at: Option<OffsetDateTime>,
}

/// An e-mail that is to be sent now.
#[derive(sqlx::FromRow)]
pub(crate) struct Due {
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) tenant_id: String,
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) message_id: String,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) created_at: OffsetDateTime,
}

/// Writes the e-mails that events call for, each unless its order has one of that kind.
pub(crate) async fn write<E: Event>(
    tx: &mut PgConnection,
    letters: &[(&Received<E>, Letter<'_>)],
) -> sqlx::Result<()> {
    let events = || letters.iter().map(|(event, _)| event);
    let letters = || letters.iter().map(|(_, letter)| letter);
    let orders: Vec<_> = events().map(|event| event.data.order_id().0).collect();
    let tenants: Vec<_> = events().map(|event| event.data.tenant_id().as_str()).collect();
    let message_ids: Vec<_> = events().map(|event| message_id(&event.envelope)).collect();
    let flows: Vec<_> = events().map(|event| event.envelope.correlation_id.as_str()).collect();
    let spans: Vec<_> = events().map(|event| event.cause().traceparent).collect();
    sqlx::query(
        // Sorted, as locks are to be.
        "insert into emails (order_id, kind, tenant_id, recipient, subject, body, message_id, correlation_id,
                             traceparent)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::text[], $9::text[])
             as letter (order_id, kind, tenant_id, recipient, subject, body, message_id, correlation_id, traceparent)
         order by order_id, kind
         on conflict do nothing",
    )
    .bind(orders)
    .bind(letters().map(|letter| letter.kind).collect::<Vec<_>>())
    .bind(tenants)
    .bind(letters().map(|letter| letter.to).collect::<Vec<_>>())
    .bind(letters().map(|letter| letter.subject.as_str()).collect::<Vec<_>>())
    .bind(letters().map(|letter| letter.body.as_str()).collect::<Vec<_>>())
    .bind(message_ids)
    .bind(flows)
    .bind(spans)
    .execute(tx)
    .instrument(query_span("insert emails"))
    .await?;
    Ok(())
}

/// The `Message-ID` of the e-mail that an event calls for: always the same. Ids of others are any text, which may
/// not stand in a header, and unique only within their source.
fn message_id(envelope: &Envelope) -> String {
    let id = envelope.id.as_str();
    let plain = match Uuid::try_parse(id) {
        Ok(id) => id.to_string(),
        // No control character is in an id, so that the two can't run into each other.
        Err(_) => format!("{:x}", Sha256::digest(format!("{id}\0{}", envelope.source))),
    };
    format!("<{plain}@orderflow.example>")
}

/// The e-mail that is due for the longest, locked until the transaction ends. What another instance has locked is
/// passed over.
pub(crate) async fn claim(tx: &mut PgConnection) -> sqlx::Result<Option<Due>> {
    sqlx::query_as(
        "select order_id, kind, tenant_id, recipient, subject, body, message_id, correlation_id, traceparent,
                created_at
         from emails
         where sent_at is null and failed_at is null and next_attempt_at <= now()
         order by next_attempt_at limit 1
         for update skip locked",
    )
    .fetch_optional(tx)
    .await
}

/// Keeps what became of an attempt. A failure that may pass is tried again after 1 s, doubled up to 64 s.
pub(crate) async fn settle(
    tx: &mut PgConnection,
    due: &Due,
    outcome: &Result<(), SendError>,
) -> sqlx::Result<()> {
    let error = outcome.as_ref().err();
    sqlx::query(
        "update emails set
             attempts = attempts + 1,
             last_error = $3,
             sent_at = case when $3::text is null then clock_timestamp() end,
             failed_at = case when $4 then clock_timestamp() end,
             next_attempt_at = clock_timestamp() + interval '1 second' * 2 ^ least(attempts, 6)
         where order_id = $1 and kind = $2",
    )
    .bind(due.order_id)
    .bind(&due.kind)
    .bind(error.map(legible))
    .bind(error.is_some_and(SendError::is_permanent))
    .execute(tx)
    .await?;
    Ok(())
}

/// An error with its causes. Servers may say anything, and Postgres takes no NUL.
fn legible(error: &SendError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.replace(char::is_control, " ").chars().take(ERROR_CHARS).collect()
}

/// The e-mails of an order, of this tenant.
pub(crate) async fn of_order(
    pool: &PgPool,
    tenant: &TenantId,
    order: OrderId,
) -> sqlx::Result<Vec<Email>> {
    sqlx::query_as(
        "select kind, recipient, subject, message_id, attempts, last_error, created_at, sent_at,
                case when sent_at is not null then 'sent' when failed_at is not null then 'failed'
                     else 'waiting' end as status
         from emails where order_id = $1 and tenant_id = $2
         order by kind",
    )
    .bind(order.0)
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str, source: &str) -> String {
        let attributes = [
            ("specversion", "1.0"),
            ("id", id),
            ("source", source),
            ("type", "order.completed"),
            ("subject", "17"),
            ("sequence", "1"),
            ("tenantid", "acme"),
        ];
        let get = |name: &str| attributes.iter().find(|it| it.0 == name).map(|it| it.1);
        message_id(&Envelope::from_attributes(get).unwrap())
    }

    #[test]
    fn a_message_id_is_plain_and_differs_when_the_event_does() {
        let uuid = "01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55";
        assert_eq!(of(uuid, "/order"), format!("<{uuid}@orderflow.example>"));
        let odd = ["1", "1 ", "a@b> evil <c", "ünïcode", &"x".repeat(256)];
        let ids: std::collections::HashSet<_> =
            odd.iter().flat_map(|id| [of(id, "/order"), of(id, "/billing")]).collect();
        assert_eq!(ids.len(), 2 * odd.len());
        for id in ids {
            let local = id.strip_prefix('<').unwrap().strip_suffix("@orderflow.example>").unwrap();
            assert!(local.len() == 64 && local.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        }
        assert_eq!(of("1", "/order"), of("1", "/order"));
    }
}
