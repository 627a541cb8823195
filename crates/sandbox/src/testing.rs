//! Utilities for tests that use the servers of `sandbox run`.

use std::{env, panic::Location, time::Duration};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout_at};

use crate::database;

/// Set by `sandbox run`: the superuser's URL, without a database.
pub const POSTGRES_URL: &str = "SANDBOX_POSTGRES_URL";
/// Set by `sandbox run`: Kafka's address.
pub const KAFKA_BROKERS: &str = "SANDBOX_KAFKA_BROKERS";

/// Databases and topic names on the shared servers that only one test uses, so that tests can run
/// concurrently. Nothing is removed before the servers stop.
///
/// ```no_run
/// # async fn example() -> sqlx::Result<()> {
/// use sandbox::testing::TestSpace;
///
/// let space = TestSpace::new().await;
/// let pool = sqlx::PgPool::connect(space.database_url()).await?;
/// let topic = format!("{}parcel.shipped", space.topic_prefix());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestSpace {
    id: String,
    admin: PgConnectOptions,
    database_url: String,
    kafka_brokers: String,
    topic_prefix: String,
}

impl TestSpace {
    /// Creates a space with one empty database.
    ///
    /// # Panics
    /// If the test was not started by `sandbox run`, or its servers don't answer.
    pub async fn new() -> Self {
        let (server, kafka_brokers) = (variable(POSTGRES_URL), variable(KAFKA_BROKERS));
        let admin = server.parse::<PgConnectOptions>();
        let admin = admin
            .unwrap_or_else(|error| panic!("{POSTGRES_URL}={server}: {error}"))
            .database("postgres");
        // The end of a UUID is random, and 12 digits keep the names readable.
        let id = database::new_password().split_off(20);
        let mut space = Self {
            topic_prefix: format!("t-{id}."),
            database_url: String::new(),
            id,
            admin,
            kafka_brokers,
        };
        space.database_url = space.make(&space.database_name()).await;
        space
    }

    /// Returns the URL of its first database, `t_<id>`, with the role that owns it.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Creates a further database and returns its URL.
    ///
    /// # Panics
    /// If the name has other characters than lower-case letters, digits and `_`, or Postgres
    /// refuses.
    pub async fn database(&self, name: &str) -> String {
        self.make(&format!("t_{}_{name}", self.id)).await
    }

    /// Executes SQL statements in its first database as the server's superuser.
    ///
    /// # Panics
    /// If Postgres refuses.
    pub async fn as_superuser(&self, sql: &str) {
        let mut connection = self.superuser().await;
        let executed = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        executed.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn superuser(&self) -> PgConnection {
        let options = self.admin.clone().database(&self.database_name());
        // Works in a database that is read-only by default, too.
        let options = options.options([("default_transaction_read_only", "off")]);
        PgConnection::connect_with(&options).await.unwrap_or_else(|error| {
            panic!("no connection as superuser: {error}");
        })
    }

    /// Makes its first database read-only, like a demoted primary, or writable again. Sessions are
    /// ended when it becomes read-only; when it becomes writable, existing sessions stay read-only.
    ///
    /// # Panics
    /// If Postgres refuses.
    pub async fn set_read_only(&self, read_only: bool) {
        let name = self.database_name();
        let setting =
            if read_only { "set default_transaction_read_only = on" } else { "reset all" };
        self.as_superuser(&format!("alter database {name} {setting}")).await;
        if read_only {
            self.end_sessions().await;
        }
    }

    /// Ends the sessions of its first database.
    ///
    /// # Panics
    /// If Postgres refuses.
    pub async fn end_sessions(&self) {
        self.as_superuser(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    }

    /// Ends the sessions of its first database, and returns how many rows and index entries all
    /// scans of this table have read. A session reports what it read at its end at the latest.
    ///
    /// # Panics
    /// If Postgres refuses, or the sessions do not end within 10 s.
    pub async fn entries_read(&self, table: &str) -> i64 {
        self.end_sessions().await;
        let mut connection = self.superuser().await;
        let ended = async || {
            let others = "select count(*) from pg_stat_activity
                          where datname = current_database() and pid <> pg_backend_pid()";
            let others: i64 =
                sqlx::query_scalar(others).fetch_one(&mut connection).await.expect("an answer");
            (others == 0).then_some(())
        };
        eventually("the sessions to end", Duration::from_secs(10), ended).await;
        let read = "select (it.seq_tup_read + coalesce(sum(by_index.idx_tup_read), 0))::int8
                    from pg_stat_user_tables as it
                    left join pg_stat_user_indexes as by_index using (relid)
                    where it.relname = $1 group by it.relid, it.seq_tup_read";
        let read = sqlx::query_scalar(read).bind(table).fetch_one(&mut connection).await;
        read.expect("the statistics of the table")
    }

    /// Returns the name of its first database, and of the role that owns it.
    fn database_name(&self) -> String {
        format!("t_{}", self.id)
    }

    /// Returns Kafka's address.
    pub fn kafka_brokers(&self) -> &str {
        &self.kafka_brokers
    }

    /// Returns the prefix of its topics and groups: `t-<id>.`
    pub fn topic_prefix(&self) -> &str {
        &self.topic_prefix
    }

    async fn make(&self, name: &str) -> String {
        let password = database::new_password();
        if let Err(error) = database::create(&self.admin, name, &password).await {
            panic!(
                "{error}: {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            );
        }
        database::url(&self.admin, name, &password)
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!(
            "this test needs Postgres and Kafka ({name} is not set): \
             run `make test`, or `cargo run -p orderflow-sandbox -- run -- cargo test ...`"
        )
    })
}

/// Repeats `probe` every 15 ms until it returns a value.
///
/// ```no_run
/// # async fn count() -> u64 { 3 }
/// # async {
/// use std::time::Duration;
/// let three = async || Some(count().await).filter(|count| *count == 3);
/// sandbox::testing::eventually("three invoices", Duration::from_secs(10), three).await;
/// # };
/// ```
///
/// # Panics
/// With `what` and the caller's line, if `limit` is exceeded.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(found)) = timeout_at(deadline, probe()).await {
                return found;
            }
            sleep(Duration::from_millis(15)).await;
        }
        panic!("waited {limit:?} in vain for {what} ({caller})")
    }
}

/// Waits until at least this many statements of a pool's database wait for a lock.
///
/// # Panics
/// If `limit` is exceeded, or the database does not answer.
pub async fn statements_wait_for_a_lock(pool: &sqlx::PgPool, statements: i64, limit: Duration) {
    let what = format!("{statements} statements that wait for a lock");
    eventually(&what, limit, async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await
        .expect("an answer about statements that wait");
        (waiting >= statements).then_some(())
    })
    .await;
}
