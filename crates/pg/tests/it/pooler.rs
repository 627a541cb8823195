//! Behind a real PgBouncer. Where it is not installed these tests say so and pass.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use sandbox::testing::TestSpace;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// A PgBouncer before the database of a test. It ends with the test.
struct PgBouncer {
    process: Child,
    /// Holds its settings.
    _folder: TempDir,
    database: PgConnectOptions,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl PgBouncer {
    /// Starts one. Returns `None` if it is not installed.
    async fn start(space: &TestSpace, pool_mode: &str, more: &str) -> Option<Self> {
        let server: PgConnectOptions = space.database_url().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = folder.path().join("pgbouncer.ini");
        let (name, user) = (server.get_database().unwrap(), server.get_username());
        let password = password_of(space.database_url());
        fs::write(
            &settings,
            format!(
                "[databases]\n{name} = host=127.0.0.1 port={} user={user} password={password}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                 pool_mode = {pool_mode}\n{more}\n",
                server.get_port()
            ),
        )
        .unwrap();
        let process = match launch(&settings) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: pgbouncer is not installed");
                return None;
            }
            process => process.unwrap(),
        };
        let database = server.clone().port(port).extra_float_digits(None);
        let started = Self { process, _folder: folder, database };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = PgConnection::connect_with(&started.database).await {
            assert!(Instant::now() < until, "pgbouncer does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(started)
    }
}

/// It refuses to run as root, and its settings hold a password that only its user may read.
fn launch(settings: &Path) -> io::Result<Child> {
    let mut command = if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        for path in [settings, settings.parent().unwrap()] {
            std::os::unix::fs::chown(path, Some(nobody.uid.as_raw()), None).unwrap();
        }
        let mut command = Command::new("pgbouncer");
        command.args(["-u", "nobody"]);
        command
    } else {
        Command::new("pgbouncer")
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin")).arg("-q").arg(settings);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()
}

fn password_of(url: &str) -> &str {
    url.split_once("//")
        .and_then(|(_, rest)| rest.split_once('@'))
        .unwrap()
        .0
        .split_once(':')
        .unwrap()
        .1
}

#[tokio::test]
async fn a_connection_to_postgres_keeps_its_session() {
    let space = TestSpace::new().await;
    assert!(pg::keeps_sessions(&space.database_url().parse().unwrap()).await.unwrap());
}

#[tokio::test]
async fn sessions_that_are_pooled_as_a_whole_are_kept_with_their_limits() {
    let space = TestSpace::new().await;
    let Some(bouncer) = PgBouncer::start(&space, "session", "").await else { return };
    assert!(pg::keeps_sessions(&bouncer.database).await.unwrap());

    let pool = pg::PoolOptions::new("billing").connect_lazily(bouncer.database.clone());
    for (name, value) in [("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "15s")] {
        let query = sqlx::query_scalar("select current_setting($1)").bind(name);
        let set: String = query.fetch_one(&pool).await.unwrap();
        assert_eq!(set, value, "{name}");
    }
}

#[tokio::test]
async fn sessions_that_change_between_transactions_are_found() {
    for more in ["", "server_round_robin = 1", "default_pool_size = 1"] {
        let space = TestSpace::new().await;
        let Some(bouncer) = PgBouncer::start(&space, "transaction", more).await else { return };
        if more == "server_round_robin = 1" {
            leave_idle_sessions(&bouncer.database, 5).await;
        }
        let keeps = pg::within(Duration::from_secs(5), pg::keeps_sessions(&bouncer.database)).await;
        // With a single session the transaction of one connection keeps the other one waiting.
        assert!(matches!(keeps, Ok(false)), "{more}: {keeps:?}");
    }
}

#[tokio::test]
async fn sessions_that_change_between_statements_are_found() {
    let space = TestSpace::new().await;
    let Some(bouncer) = PgBouncer::start(&space, "statement", "").await else { return };
    assert!(!pg::keeps_sessions(&bouncer.database).await.unwrap());
}

/// Makes the pooler open so many sessions, and leaves them to it.
async fn leave_idle_sessions(database: &PgConnectOptions, count: usize) {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = PgConnection::connect_with(database).await.unwrap();
        sqlx::raw_sql("begin; select 1").execute(&mut connection).await.unwrap();
        connections.push(connection);
    }
    for connection in connections {
        connection.close().await.unwrap();
    }
}
