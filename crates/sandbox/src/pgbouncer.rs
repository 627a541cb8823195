//! Starts PgBouncer in front of a test's database.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use nix::unistd::{User, geteuid};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use crate::port;

const PATIENCE: Duration = Duration::from_secs(10);

/// A PgBouncer in front of one database. It accepts every login, and ends when it is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    /// Folder of its settings.
    _folder: TempDir,
    url: String,
}

impl PgBouncer {
    /// Starts one with a `pool_mode` and further settings. Returns `None`, and prints a line, if it
    /// is not installed.
    ///
    /// # Panics
    /// If the URL is not that of a database with a user and a password, PgBouncer does not start,
    /// or it is not installed although `CI` is set.
    pub async fn start(database_url: &str, pool_mode: &str, settings: &[&str]) -> Option<Self> {
        let server: PgConnectOptions = database_url.parse().expect("a URL of Postgres");
        let name = server.get_database().expect("a database");
        let (user, password) = login_of(database_url).expect("a user and a password");
        let port = port::free().expect("a free port");
        let mut text = format!(
            "[databases]\n{name} = host={} port={} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\n",
            server.get_host(),
            server.get_port()
        );
        for setting in settings {
            _ = writeln!(text, "{setting}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, text).expect("its settings are written");
        let process = match launch(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                assert!(env::var_os("CI").is_none(), "CI has no pgbouncer: .ci/run installs it");
                eprintln!("SKIPPED: pgbouncer is not installed");
                return None;
            }
            launched => launched.expect("pgbouncer is started"),
        };
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}");
        let it = Self { process, _folder: folder, url };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "pgbouncer does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(it)
    }

    /// Returns the URL of the database behind it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Starts PgBouncer. It refuses to run as root, so root runs it as `nobody`, who has to be able to
/// read its settings.
fn launch(settings: &Path) -> io::Result<Child> {
    // Debian installs it outside of a user's PATH.
    let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
    let mut command = Command::new("pgbouncer");
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if geteuid().is_root() {
        let user = User::from_name("nobody")?.ok_or(io::ErrorKind::Unsupported)?;
        for path in [settings, settings.parent().unwrap_or(settings)] {
            chown(path, Some(user.uid.as_raw()), None)?;
        }
        command.args(["-u", "nobody"]);
    }
    command.arg("-q").arg(settings).spawn()
}

fn login_of(url: &str) -> Option<(&str, &str)> {
    let (_, rest) = url.split_once("://")?;
    rest.split_once('@')?.0.split_once(':')
}
