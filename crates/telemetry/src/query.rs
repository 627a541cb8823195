use tracing::{Span, field};

/// A span for a statement, after OpenTelemetry's conventions for database calls
/// (<https://opentelemetry.io/docs/specs/semconv/db/database-spans/>). `summary` says what is done to which table:
/// `insert parcels`. A statement that does several operations at once records how many in `db.operation.batch.size`.
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
