//! The table `emails`.

use consumer::Received;
use envelope::{Cause, Envelope, TenantId};
use events::{OrderEvent, OrderId};
use jobs::{EnqueueError, Meta};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use super::send_email::SendEmail;
use super::text::{EmailKind, EmailText};

/// Maximum length of a recipient, longer than any valid address (RFC 5321, 4.5.3.1). The schema of
/// events does not limit it.
const MAX_RECIPIENT_CHARS: usize = 320;

/// An e-mail in the public API.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Email {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
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

/// An e-mail that has not been sent.
#[derive(sqlx::FromRow)]
pub(crate) struct Unsent {
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) message_id: String,
    pub(crate) created_at: OffsetDateTime,
}

/// An e-mail to write to the table.
pub(crate) struct Wanted<'a> {
    pub(crate) order_id: OrderId,
    pub(crate) tenant_id: &'a TenantId,
    pub(crate) text: EmailText<'a>,
    pub(crate) message_id: String,
    pub(crate) cause: Cause,
}

impl<'a> Wanted<'a> {
    /// Creates the e-mail for an event.
    pub(crate) fn by<E: OrderEvent>(event: &'a Received<E>, text: EmailText<'a>) -> Self {
        Self {
            order_id: event.data.order_id(),
            tenant_id: event.data.tenant_id(),
            text,
            message_id: message_id(&event.envelope),
            cause: event.cause(),
        }
    }
}

/// Inserts e-mails, each with its job, except those whose order has an e-mail of that kind already.
pub(crate) async fn write(
    tx: &mut PgConnection,
    wanted: &[Wanted<'_>],
) -> Result<(), EnqueueError> {
    let texts = || wanted.iter().map(|wanted| &wanted.text);
    let written: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
        // Sorted, so that concurrent transactions lock rows in the same order.
        "insert into emails (id, order_id, kind, tenant_id, recipient, subject, body, message_id)
         select * from unnest($8::uuid[], $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                              $7::text[])
             as text (id, order_id, kind, tenant_id, recipient, subject, body, message_id)
         order by order_id, kind
         on conflict do nothing
         returning id, order_id, kind",
    )
    .bind(wanted.iter().map(|wanted| wanted.order_id.0).collect::<Vec<_>>())
    .bind(texts().map(|text| text.kind).collect::<Vec<_>>())
    .bind(wanted.iter().map(|wanted| wanted.tenant_id.as_str()).collect::<Vec<_>>())
    .bind(texts().map(|text| recipient(text.to)).collect::<Vec<_>>())
    .bind(texts().map(|text| text.subject.as_str()).collect::<Vec<_>>())
    .bind(texts().map(|text| text.body.as_str()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|wanted| wanted.message_id.as_str()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .instrument(query_span("insert emails"))
    .await?;
    let jobs: Vec<_> =
        written.into_iter().map(|(id, order, kind)| (id, SendEmail::new(order, kind))).collect();
    let meta = |id: Uuid, job: &SendEmail| {
        let about = Meta::new().id(id).subject(job.order_id.to_string());
        match wanted.iter().find(|wanted| job.is_of(wanted.order_id, wanted.text.kind)) {
            Some(wanted) => about.tenant(wanted.tenant_id.as_str()).cause(&wanted.cause),
            None => about,
        }
    };
    if !jobs.is_empty() {
        jobs::enqueue_all(tx, jobs.iter().map(|(id, job)| (job, meta(*id, job)))).await?;
    }
    Ok(())
}

/// Truncates a text that is too long to be an address. The truncated text is still too long for
/// one.
fn recipient(to: &str) -> String {
    to.chars().take(MAX_RECIPIENT_CHARS + 1).collect()
}

/// Returns the `Message-ID` of an order's acknowledgement, which has no event.
pub(crate) fn acknowledgement_id(order: OrderId) -> String {
    format!("<acknowledgement-{order}@orderflow.example>")
}

/// Returns the `Message-ID` of an event's e-mail: the same on each call. It is a hash, because an
/// event's id may be any text, which a header can't hold, and is unique only within its source.
fn message_id(envelope: &Envelope) -> String {
    let id = envelope.id.as_str();
    let plain = if let Ok(id) = Uuid::try_parse(id) {
        id.to_string()
    } else {
        // Ids contain no control characters, so the separator keeps the two parts apart.
        let digest = Sha256::digest(format!("{id}\0{}", envelope.source));
        digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    format!("<{plain}@orderflow.example>")
}

/// Returns an e-mail that has not been sent. One that failed for good is set back to waiting.
pub(crate) async fn unsent(
    pool: &PgPool,
    order: OrderId,
    kind: &str,
) -> sqlx::Result<Option<Unsent>> {
    sqlx::query_as(
        "update emails set failed_at = null
         where order_id = $1 and kind = $2 and sent_at is null
         returning order_id, kind, recipient, subject, body, message_id, created_at",
    )
    .bind(order.0)
    .bind(kind)
    .fetch_optional(pool)
    .await
}

/// Records a failed attempt. Returns `false` if the e-mail was erased meanwhile.
pub(crate) async fn tried(
    pool: &PgPool,
    order: OrderId,
    kind: &str,
    error: &str,
) -> sqlx::Result<bool> {
    let tried = sqlx::query(
        "update emails set attempts = attempts + 1, last_error = $3 where order_id = $1 and kind = $2",
    )
    .bind(order.0)
    .bind(kind)
    .bind(error)
    .execute(pool)
    .await?;
    Ok(tried.rows_affected() != 0)
}

/// Records that an e-mail was sent.
pub(crate) async fn sent(tx: &mut PgConnection, order: OrderId, kind: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update emails set attempts = attempts + 1, last_error = null, sent_at = clock_timestamp()
         where order_id = $1 and kind = $2 and sent_at is null",
    )
    .bind(order.0)
    .bind(kind)
    .execute(tx)
    .await?;
    Ok(())
}

/// Records the final failure of an e-mail. Returns `false` if no such e-mail waits to be sent.
pub(crate) async fn given_up(
    tx: &mut PgConnection,
    order: OrderId,
    kind: &str,
) -> sqlx::Result<bool> {
    let given_up = sqlx::query(
        "update emails set failed_at = clock_timestamp()
         where order_id = $1 and kind = $2 and sent_at is null",
    )
    .bind(order.0)
    .bind(kind)
    .execute(tx)
    .await?;
    Ok(given_up.rows_affected() != 0)
}

/// Conditions of a list of e-mails; all of them apply.
#[derive(Default)]
pub(crate) struct Filter {
    pub(crate) order_id: Option<OrderId>,
    pub(crate) kind: Option<EmailKind>,
    pub(crate) status: Option<EmailStatus>,
}

/// Status of an e-mail.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmailStatus {
    Waiting,
    Sent,
    Failed,
}

/// Lists the e-mails of a tenant below an id, newest first.
pub(crate) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    filter: &Filter,
    below: Uuid,
    rows: i64,
) -> sqlx::Result<Vec<Email>> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select id, order_id, kind, recipient, subject, message_id, attempts, last_error, created_at, sent_at,
                case when sent_at is not null then 'sent' when failed_at is not null then 'failed'
                     else 'waiting' end as status
         from emails where tenant_id = ",
    );
    query.push_bind(tenant.as_str()).push(" and id < ").push_bind(below);
    if let Some(order) = filter.order_id {
        query.push(" and order_id = ").push_bind(order.0);
    }
    if let Some(kind) = &filter.kind {
        query.push(" and kind = ").push_bind(kind.0.as_str());
    }
    query.push(match filter.status {
        None => "",
        // The conditions of the partial indexes.
        Some(EmailStatus::Waiting) => " and sent_at is null and failed_at is null",
        Some(EmailStatus::Failed) => " and sent_at is null and failed_at is not null",
        Some(EmailStatus::Sent) => " and sent_at is not null",
    });
    query.push(" order by id desc limit ").push_bind(rows);
    query.build_query_as().fetch_all(pool).await
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
        message_id(&Envelope::from_attributes(get).unwrap().0)
    }

    #[test]
    fn what_is_kept_of_a_recipient_is_bounded_and_does_not_become_an_address() {
        let long = format!("{}@example.com", "x".repeat(1_000_000));
        let kept = recipient(&long);
        assert!(kept.len() == MAX_RECIPIENT_CHARS + 1 && !kept.contains('@'));
        assert_eq!(recipient("ada@example.com"), "ada@example.com");
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
