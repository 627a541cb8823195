use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::CursorKey;
use envelope::TenantId;
use events::{Order, OrderId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Instrument;
use utoipa::ToSchema;

/// Revenue of one day in one currency: orders completed on that day and not cancelled since.
#[derive(Serialize, ToSchema)]
pub(crate) struct Revenue {
    #[schema(format = Date)]
    pub(crate) day: String,
    pub(crate) currency: String,
    pub(crate) orders: i64,
    /// Wider than one order's total, so that no number of orders overflows it.
    pub(crate) total: i128,
}

/// Number of orders by state.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Funnel {
    /// Reported by the order service after its responses, once and without a retry, so it may stay
    /// below `created`.
    pub(crate) placed: i64,
    pub(crate) created: i64,
    pub(crate) open: i64,
    pub(crate) completed: i64,
    /// Open or completed before, and not counted there any more.
    pub(crate) cancelled: i64,
}

/// An order at a version.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) order: &'a Order,
    pub(crate) version: i64,
    pub(crate) completed_at: Option<OffsetDateTime>,
    pub(crate) cancelled_at: Option<OffsetDateTime>,
}

/// Writes orders, unless a newer version is stored.
pub(crate) async fn put(tx: &mut PgConnection, known: &[Known<'_>]) -> sqlx::Result<()> {
    let ids: Vec<_> = known.iter().map(|it| it.order.order_id.0).collect();
    let tenants: Vec<_> = known.iter().map(|it| it.order.tenant_id.as_str()).collect();
    let versions: Vec<_> = known.iter().map(|it| it.version).collect();
    let currencies: Vec<_> = known.iter().map(|it| it.order.currency.as_str()).collect();
    let totals: Vec<_> = known.iter().map(|it| it.order.total).collect();
    let created: Vec<_> = known.iter().map(|it| pg::in_utc(it.order.created_at)).collect();
    let completed: Vec<_> = known.iter().map(|it| it.completed_at.map(pg::in_utc)).collect();
    let cancelled: Vec<_> = known.iter().map(|it| it.cancelled_at.map(pg::in_utc)).collect();
    sqlx::query(
        // Only the latest version of each order, since a statement can't write a row twice; sorted,
        // so that concurrent transactions lock rows in the same order.
        "insert into orders as known
             (order_id, tenant_id, version, currency, total, created_at, completed_at, cancelled_at)
         select distinct on (order_id) *
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[],
                     $7::timestamptz[], $8::timestamptz[])
             as told (order_id, tenant_id, version, currency, total, created_at, completed_at, cancelled_at)
         order by order_id, version desc
         on conflict (order_id) do update set
             (tenant_id, version, currency, total, created_at, completed_at, cancelled_at) =
             (excluded.tenant_id, excluded.version, excluded.currency, excluded.total, excluded.created_at,
              excluded.completed_at, excluded.cancelled_at)
         where known.version < excluded.version",
    )
    .bind(ids)
    .bind(tenants)
    .bind(versions)
    .bind(currencies)
    .bind(totals)
    .bind(created)
    .bind(completed)
    .bind(cancelled)
    .execute(tx)
    .instrument(query_span("upsert orders"))
    .await?;
    Ok(())
}

impl Revenue {
    pub(crate) fn key(&self) -> RevenueKey {
        RevenueKey { day: self.day.clone(), currency: self.currency.clone() }
    }
}

/// Key of a row of the revenue, at which a page begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RevenueKey {
    day: String,
    currency: String,
}

/// The currency is a text of the event's producer. It may contain any characters but NUL.
impl CursorKey for RevenueKey {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}.{}", self.day, self.currency))
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (day, currency) = text.split_once('.').filter(|_| !text.contains('\0'))?;
        midnight(day)?;
        Some(Self { day: day.to_owned(), currency: currency.to_owned() })
    }
}

/// Returns the beginning of a day, UTC, or `None` if the text is not of the form `YYYY-MM-DD`.
pub(crate) fn midnight(day: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(&format!("{day}T00:00:00Z"), &Rfc3339).ok()
}

/// Returns the revenue of orders that were completed at `from` or later and before `until` and not
/// cancelled since, by day and currency: at most `rows` rows, those after the key `after`.
pub(crate) async fn revenue(
    pool: &PgPool,
    tenant: &TenantId,
    (from, until): (Option<OffsetDateTime>, Option<OffsetDateTime>),
    after: Option<RevenueKey>,
    rows: i64,
) -> sqlx::Result<Vec<Revenue>> {
    // The sums of earlier days are not needed.
    let from = from.max(after.as_ref().and_then(|it| midnight(&it.day)));
    let (day, currency) = after.map(|it| (it.day, it.currency)).unzip();
    // The sum of bigints is a numeric, which is read as text.
    let rows: Vec<(String, String, i64, String)> = sqlx::query_as(
        "select to_char(completed_at at time zone 'UTC', 'YYYY-MM-DD') as day, currency, count(*),
                sum(total)::text
         from orders
         where tenant_id = $1 and cancelled_at is null
           and completed_at >= coalesce($2, '-infinity') and completed_at < coalesce($3, 'infinity')
         group by day, currency
         having $4::text is null
             or (to_char(completed_at at time zone 'UTC', 'YYYY-MM-DD'), currency) > ($4, $5)
         order by day, currency limit $6",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(until)
    .bind(day)
    .bind(currency)
    .bind(rows)
    .fetch_all(pool)
    .await?;
    let revenue = rows.into_iter().map(|(day, currency, orders, total)| {
        let total = total.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Revenue { day, currency, orders, total })
    });
    revenue.collect()
}

/// Returns a tenant's funnel.
pub(crate) async fn funnel(pool: &PgPool, tenant: &TenantId) -> sqlx::Result<Funnel> {
    sqlx::query_as(
        "select (select count(*) from tracked where tenant_id = $1 and event = $2) as placed,
                count(*) as created,
                count(*) filter (where completed_at is null and cancelled_at is null) as open,
                count(*) filter (where completed_at is not null and cancelled_at is null) as completed,
                count(cancelled_at) as cancelled
         from orders where tenant_id = $1",
    )
    .bind(tenant.as_str())
    .bind(ORDER_PLACED)
    .fetch_one(pool)
    .await
}

/// Type of the tracked event of a placed order.
pub(crate) const ORDER_PLACED: &str = "order_placed";

/// Records a tracked order, once.
pub(crate) async fn track(
    pool: &PgPool,
    event: &str,
    tenant: &TenantId,
    order: OrderId,
    at: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into tracked (order_id, event, tenant_id, at) values ($1, $2, $3, $4)
         on conflict do nothing",
    )
    .bind(order.0)
    .bind(event)
    .bind(tenant.as_str())
    .bind(pg::in_utc(at))
    .execute(pool)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for currency in ["EUR", "eur", "", "Taler. 1/?&ü"] {
            let key = RevenueKey { day: "2026-11-20".into(), currency: currency.into() };
            assert_eq!(RevenueKey::from_text(&key.to_text()), Some(key));
        }
        for text in ["", "2026-11-20", "2026-02-30.EUR", "2026-11-20.E\0R"] {
            let text = URL_SAFE_NO_PAD.encode(text);
            assert_eq!(RevenueKey::from_text(&text), None, "{text}");
        }
    }
}
