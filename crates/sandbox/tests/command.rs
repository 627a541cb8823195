//! Tests of the command `sandbox run`, from outside.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sandbox::testing::eventually;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// A run with a separate folder for temporary files, so that leftovers are found.
struct Run {
    temp: TempDir,
    command: Command,
}

const LIMIT: Duration = Duration::from_mins(1);

fn sandbox(script: &str) -> Run {
    let temp =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(["run", "--", "sh", "-c", script]).env("TMPDIR", temp.path());
    command.stdin(Stdio::null());
    Run { temp, command }
}

impl Run {
    fn output(&mut self) -> (Option<i32>, String) {
        let output = self.command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn spawn(&mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Returns the processes whose command lines contain this run's folder, as those of both
    /// servers do.
    fn processes(&self) -> Vec<String> {
        let output =
            Command::new("ps").args(["-A", "-ww", "-o", "stat=,pid=,args="]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = |line: &&str| {
            line.contains(self.temp.path().to_str().unwrap()) && !line.starts_with('Z')
        };
        text.lines().filter(ours).map(Into::into).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.temp.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn started(&self) {
        let file = self.temp.path().join("started");
        eventually("the command's start", LIMIT, async || file.exists().then_some(())).await;
        fs::remove_file(file).unwrap();
    }
}

fn signal(signal: &str, child: &Child) {
    assert!(
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success()
    );
}

#[test]
fn it_sets_the_variables_exits_as_the_command_and_leaves_nothing() {
    let mut run = sandbox("echo $SANDBOX_POSTGRES_URL and $SANDBOX_KAFKA_BROKERS; exit 3");
    let (code, text) = run.output();
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("postgres://postgres@127.0.0.1:") && text.contains("and 127.0.0.1:"),
        "{text}"
    );
    assert_eq!((run.files(), run.processes()), (vec![], vec![]));
}

#[test]
fn the_command_gets_no_variables_that_cargo_set_for_the_sandbox() {
    let mut run = sandbox("env | grep ^CARGO");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO"))
    {
        run.command.env_remove(name);
    }
    for name in ["CARGO", "CARGO_BIN_NAME", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        run.command.env(name, "the sandbox's");
    }
    run.command.env("CARGO_PKG_NAME", "sandbox").env("CARGO_PKG_VERSION_PATCH", "1");
    run.command.env("CARGO_INCREMENTAL", "0").env("CARGO_TARGET_DIR", "elsewhere");
    let (code, text) = run.output();
    assert_eq!(code, Some(0), "{text}");
    let mut found: Vec<_> = text.lines().filter(|line| line.starts_with("CARGO")).collect();
    found.sort_unstable();
    assert_eq!(found, ["CARGO_INCREMENTAL=0", "CARGO_TARGET_DIR=elsewhere"], "{text}");
}

#[tokio::test]
async fn told_to_stop_it_ends_the_command_with_its_children_and_leaves_nothing() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        // The command's child would live on if only the command received the signal.
        let mut run = sandbox("sh -c 'sleep 1000; : '$TMPDIR & touch $TMPDIR/started; wait");
        let mut child = run.spawn();
        run.started().await;
        signal(name, &child);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!((run.files(), run.processes()), (vec![], vec![]));
    }
}

#[tokio::test]
async fn told_to_stop_while_it_starts_it_leaves_nothing() {
    let mut run = sandbox("true");
    let mut child = run.spawn();
    eventually("a server", LIMIT, async || {
        run.processes().into_iter().find(|it| it.contains("kafka"))
    })
    .await;
    signal("-INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!((run.files(), run.processes()), (vec![], vec![]));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn killed_it_takes_the_servers_with_it_and_the_next_run_clears_up() {
    let mut run = sandbox("touch $TMPDIR/started; sleep 3");
    let mut child = run.spawn();
    run.started().await;
    assert!(run.processes().len() >= 2, "{:?}", run.processes());
    signal("-KILL", &child);
    child.wait().unwrap();
    eventually("the end of the servers", LIMIT, async || run.processes().is_empty().then_some(()))
        .await;
    assert_eq!(run.files().len(), 2, "{:?}", run.files());
    let mut next = sandbox("true");
    next.command.env("TMPDIR", run.temp.path());
    let (code, text) = next.output();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(run.files(), [""; 0]);
}

/// Returns the sandbox's errors without Java and Maven, for a value of `PG_BIN`.
fn missing_with(pg_bin: &str) -> String {
    let mut run = sandbox("true");
    run.command.env("PATH", "").env("PG_BIN", pg_bin).env("XDG_CACHE_HOME", run.temp.path());
    let output = run.command.env_remove("JAVA_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn all_that_is_missing_is_named_with_its_command() {
    let text = missing_with("/nowhere");
    for what in ["Java 17", "Maven", "PostgreSQL 14", "install"] {
        assert!(text.contains(what), "{text}");
    }
}

#[cfg(any(target_env = "gnu", target_os = "macos"))]
#[test]
fn a_postgres_that_is_fetched_is_not_missing() {
    let text = missing_with("fetch");
    assert!(text.contains("Maven, which fetches Kafka"), "{text}");
    assert!(!text.contains("PostgreSQL"), "{text}");
}

#[cfg(any(target_env = "gnu", target_os = "macos"))]
#[tokio::test]
async fn a_postgres_that_was_fetched_answers_and_leaves_nothing() {
    let mut run =
        sandbox("echo $SANDBOX_POSTGRES_URL > $TMPDIR/url; touch $TMPDIR/started; sleep 1000");
    run.command.env("PG_BIN", "fetch");
    let mut child = run.spawn();
    run.started().await;
    let is_fetched = |process: &String| process.contains("orderflow/postgres-18.4-");
    assert!(run.processes().iter().any(is_fetched), "{:?}", run.processes());
    let url = fs::read_to_string(run.temp.path().join("url")).unwrap();
    let mut connection = PgConnection::connect(&format!("{}/postgres", url.trim())).await.unwrap();
    // Needs the library of PL/pgSQL, the time zones and the text search, which are separate files.
    let query = "do $$ begin execute 'create extension citext'; end $$;
        create table answers as select current_setting('server_version') as version,
            to_tsvector('english', 'orders')::text as word,
            timestamptz '2026-07-01 12:00 UTC' at time zone 'Europe/Berlin' as noon";
    sqlx::raw_sql(query).execute(&mut connection).await.unwrap();
    let query = "select concat_ws(' ', version, word, noon) from answers";
    let answer: String = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
    assert_eq!(answer, "18.4 'order':1 2026-07-01 14:00:00");
    drop(connection);
    signal("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!((run.files(), run.processes()), (vec!["url".to_owned()], vec![]));
}

#[tokio::test]
async fn an_interrupted_fetch_leaves_no_half_cache() {
    let mut run = sandbox("true");
    let cache = tempfile::tempdir().unwrap();
    run.command.env("XDG_CACHE_HOME", cache.path());
    let fetched = || {
        let entries = fs::read_dir(cache.path().join("orderflow")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Postgres is fetched, too, if none is installed.
        names.filter(|name| name.contains("kafka-") && !name.contains("-java-")).collect::<Vec<_>>()
    };
    let mut child = run.spawn();
    eventually("the fetch", LIMIT, async || {
        let folder = cache.path().join("orderflow").join(fetched().first()?);
        folder.join("maven.log").exists().then_some(())
    })
    .await;
    signal("-KILL", &child);
    child.wait().unwrap();
    assert!(fetched()[0].starts_with('.'), "{:?}", fetched());

    let (code, text) = run.output();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(fetched().len(), 1);
    assert!(fetched()[0].starts_with("kafka-"), "{:?}", fetched());
}
