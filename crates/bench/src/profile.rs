//! Measures what an order takes, from its request to its published events: the processors' time of
//! each process, and the statements, transactions, WAL and syncs of Postgres.

use std::process::ExitCode;
use std::time::Duration;
use std::{fs, process, thread};

use sandbox::Console;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::orders::Http;
use crate::report::{count, quantile};
use crate::servers::Bench;
use crate::{Fallible, Size};

const DATABASE: &str = "profile";
const SECONDS: u64 = 5;
/// Longer than sessions of Postgres wait before they report their statistics.
const REPORTED: Duration = Duration::from_secs(2);
/// Unit of the times in `/proc/<pid>/stat` in microseconds, on all architectures of Rust's tier 1
/// (`proc_pid_stat(5)`, `getconf CLK_TCK`).
const TICK: f64 = 10_000.0;
/// Figures of an order, in the order of [`Usage`].
const FIGURES: [(&str, &str); 8] = [
    ("order", "µs of a processor"),
    ("Postgres", "µs of a processor"),
    ("Kafka", "µs of a processor"),
    ("the client", "µs of a processor"),
    ("statements", ""),
    ("transactions", ""),
    ("WAL", "bytes"),
    ("syncs of the WAL", ""),
];

/// Resources used since the start of the processes, or by an order.
type Usage = [f64; FIGURES.len()];

/// Processes that an order uses.
struct Processes {
    order: u32,
    postgres: u32,
    kafka: u32,
}

/// Measures the rounds and prints their medians.
pub(crate) async fn run(console: &Console, fsync: &str, size: Size) -> Fallible<ExitCode> {
    let preload = [("shared_preload_libraries", "pg_stat_statements")];
    let mut bench = Bench::start(console, fsync, &preload).await?;
    let (postgres, kafka) = bench.server_pids();
    let http = Http::start(&bench, DATABASE).await?;
    let processes = Processes { order: http.service.process.pid(), postgres, kafka };
    let mut statistics = PgConnection::connect(&bench.admin_url(DATABASE)).await?;
    sqlx::raw_sql("create extension pg_stat_statements").execute(&mut statistics).await?;

    http.run(1).await?; // The first requests connect and prepare.
    let processors = count(thread::available_parallelism()?.get());
    let (mut rounds, mut available) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let before = usage(&processes, &mut statistics).await?;
        let placed = http.run(size.seconds(SECONDS)).await?;
        let after = usage(&processes, &mut statistics).await?;
        let (orders, rate) = (placed.orders, placed.published);
        console.line(&format!("  profile {round}/{}: {rate:.0} orders/s", size.rounds));
        rounds.push(std::array::from_fn(|i| (after[i] - before[i]) / count(orders)));
        available.push(1e6 * processors / rate);
    }
    http.stop().await;
    statistics.close().await?;
    bench.stop().await;
    println!("\nOf an order, until its events are published");
    for (i, (figure, unit)) in FIGURES.iter().enumerate() {
        print(figure, unit, rounds.iter().map(|used: &Usage| used[i]).collect());
    }
    print("all processors", "µs that they had", available);
    Ok(ExitCode::SUCCESS)
}

fn print(figure: &str, unit: &str, rounds: Vec<f64>) {
    let median = quantile(rounds, 0.5);
    let digits = if median < 10.0 { 2 } else { 0 };
    println!("{figure:<20} {median:>8.digits$} {unit}");
}

async fn usage(processes: &Processes, statistics: &mut PgConnection) -> Fallible<Usage> {
    sleep(REPORTED).await;
    let (statements, transactions, wal, syncs): (f64, f64, f64, f64) = sqlx::query_as(
        "select (select sum(calls)::float8 from pg_stat_statements),
                (select xact_commit::float8 from pg_stat_database where datname = current_database()),
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8,
                (select wal_sync::float8 from pg_stat_wal)",
    )
    .fetch_one(statistics)
    .await?;
    Ok([
        time_of(processes.order)?,
        time_of(processes.postgres)? + time_of_children(processes.postgres)?,
        time_of(processes.kafka)?,
        time_of(process::id())?,
        statements,
        transactions,
        wal,
        syncs,
    ])
}

/// Returns the processors' time of a process and of its children that have ended, in microseconds.
fn time_of(pid: u32) -> Fallible<f64> {
    let fields = stat(&pid.to_string())?;
    // utime, stime, cutime and cstime are the fields 14 to 17, of which the first two are cut off.
    let ticks: Option<Vec<f64>> = (11..=14).map(|field| fields.get(field)?.parse().ok()).collect();
    Ok(ticks.ok_or("no times of a process")?.iter().sum::<f64>() * TICK)
}

/// Returns the processors' time of the children of a process that are running, in microseconds.
fn time_of_children(parent: u32) -> Fallible<f64> {
    let parent = parent.to_string();
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Ok(pid) = name.to_string_lossy().parse::<u32>() else { continue };
        // A process may end meanwhile.
        let is_child = stat(&pid.to_string()).is_ok_and(|fields| fields.get(1) == Some(&parent));
        if is_child {
            sum += time_of(pid).unwrap_or(0.0);
        }
    }
    Ok(sum)
}

/// Returns the fields of `/proc/<pid>/stat` after the name of the program, from the state on.
fn stat(pid: &str) -> Fallible<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").ok_or("no name of a process")?;
    Ok(fields.split_whitespace().map(Into::into).collect())
}
