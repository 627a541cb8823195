//! Reads invoices and credit notes for their tenants.

use envelope::TenantId;
use events::OrderId;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

/// A row of a table with the columns `id`, `tenant_id` and `order_id`.
pub(crate) trait Document: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// Selects the columns that are shown to tenants, from all rows.
    const SELECT: &'static str;

    /// Returns the id of the document.
    fn id(&self) -> Uuid;
}

/// Lists at most `limit` documents of a tenant, or of one of its orders, with ids below `below`,
/// newest first.
pub(crate) async fn list<D: Document>(
    pool: &PgPool,
    tenant: &TenantId,
    order: Option<OrderId>,
    below: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<D>> {
    let mut query = QueryBuilder::<Postgres>::new(D::SELECT);
    query.push(" where tenant_id = ").push_bind(tenant.as_str());
    query.push(" and id < ").push_bind(below);
    // A separate statement, so that each page is a range of an index.
    if let Some(order) = order {
        query.push(" and order_id = ").push_bind(order.0);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    query.build_query_as().fetch_all(pool).await
}

/// Returns a document of a tenant, or `None` if it does not exist.
pub(crate) async fn find<D: Document>(
    pool: &PgPool,
    tenant: &TenantId,
    id: Uuid,
) -> sqlx::Result<Option<D>> {
    let mut query = QueryBuilder::<Postgres>::new(D::SELECT);
    query.push(" where id = ").push_bind(id);
    query.push(" and tenant_id = ").push_bind(tenant.as_str());
    query.build_query_as().fetch_optional(pool).await
}
