use tracing::{Span, field};

/// Creates a span for a statement, following OpenTelemetry's conventions for database calls
/// (<https://opentelemetry.io/docs/specs/semconv/db/database-spans/>).
/// `summary` names the operation and the table: `insert parcels`. A statement that performs several
/// operations records their number in `db.operation.batch.size`.
pub fn query_span(summary: &'static str) -> Span {
    tracing::info_span!(
        "query",
        otel.name = summary,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.query.summary = summary,
        db.operation.batch.size = field::Empty,
    )
}
