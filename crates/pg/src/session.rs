use sqlx::{AssertSqlSafe, PgConnection};

/// Sets settings of a session, in one round trip.
///
/// Not when the session starts, as `PgConnectOptions::options` does: PgBouncer refuses a startup parameter that it does not
/// know, or drops it silently if it is told to.
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
