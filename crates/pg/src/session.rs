use sqlx::{AssertSqlSafe, PgConnection};

/// Applies settings to a session, in one round trip.
///
/// `PgConnectOptions::options` would set them at the start of the session, but PgBouncer refuses
/// unknown startup parameters, or drops them silently if configured so.
///
/// # Errors
/// Fails with the error of Postgres, for example if a setting is unknown or its value is invalid.
pub async fn set_in_session(
    connection: &mut PgConnection,
    settings: &[(&'static str, String)],
) -> sqlx::Result<()> {
    let statements: Vec<_> = settings.iter().map(|(name, value)| set(name, value)).collect();
    // Names are literals of the program, and values are quoted.
    sqlx::raw_sql(AssertSqlSafe(statements.join("; "))).execute(connection).await.map(drop)
}

fn set(name: &str, value: &str) -> String {
    format!("set {name} = '{}'", value.replace('\'', "''"))
}
