use tracing::Span;

/// A span for a statement, after OpenTelemetry's conventions for database calls
/// (<https://opentelemetry.io/docs/specs/semconv/db/database-spans/>). `summary` says what is done to which table:
/// `insert parcels`.
pub fn query_span(summary: &'static str) -> Span {
    tracing::info_span!(
        "query",
        otel.name = summary,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.query.summary = summary,
    )
}
