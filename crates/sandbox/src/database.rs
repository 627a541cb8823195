use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{Error, error::OperationContext};

/// Creates the role `name` with this password, and the database `name` that it owns and to which no
/// other role may connect. Keeps what exists already, except for the password.
pub(crate) async fn create(
    admin: &PgConnectOptions,
    name: &str,
    password: &str,
) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.len() > 40
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(plain)
    {
        return Err(Error::DatabaseName(name.into()));
    }
    let work = async {
        let mut admin = admin.connect().await?;
        let role: bool =
            exists(&mut admin, "select exists (select from pg_roles where rolname = $1)", name)
                .await?;
        let verb = if role { "alter" } else { "create" };
        run(&mut admin, format!(r#"{verb} role "{name}" login password '{password}'"#)).await?;
        if !exists(&mut admin, "select exists (select from pg_database where datname = $1)", name)
            .await?
        {
            run(&mut admin, format!(r#"create database "{name}" owner "{name}""#)).await?;
        }
        run(&mut admin, format!(r#"revoke connect on database "{name}" from public"#)).await?;
        admin.close().await
    };
    work.await.doing(|| format!("create the database {name}"))
}

/// Returns the URL of a database, with the credentials of its owner.
pub(crate) fn url(server: &PgConnectOptions, name: &str, password: &str) -> String {
    format!("postgres://{name}:{password}@{}:{}/{name}", server.get_host(), server.get_port())
}

/// Returns a random password.
pub(crate) fn new_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

async fn exists(
    admin: &mut PgConnection,
    query: &'static str,
    name: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(query).bind(name).fetch_one(admin).await
}

/// Runs a statement. The names in it were checked and the password is generated, so neither can end
/// its quotes.
async fn run(admin: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(admin).await.map(drop)
}
