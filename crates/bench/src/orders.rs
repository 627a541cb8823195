//! Compares orders over HTTP with pgbench, which writes the same rows with one statement per order:
//! rows that nobody publishes, and rows that the service's relay publishes meanwhile.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use envelope::Event;
use events::{OrderCompleted, OrderCreated, OrderStatus};
use outbox::{Columns, Prepared};
use playground::Instance;
use sqlx::PgPool;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::client::{Client, order_request};
use crate::report::{NO_TARGET, Report, Round, Row, aiming_at, count};
use crate::servers::{self, Bench};
use crate::{Fallible, Size, load};

const CLIENTS: usize = 32;
const SECONDS: u64 = 5;
/// Of a variant, which has two turns.
const SECONDS_OF_A_TURN: u64 = 3;
const PREFIX_OF_PGBENCH: &str = "orders-pgbench-";
/// Time limit of the relay for the remaining events.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let theirs = bench.database("orders_pgbench").await?;
    // The service only creates the tables for pgbench. Its relay must not publish the rows that
    // pgbench writes.
    bench.service("order", &theirs, "orders-").await?.terminate().await;
    let http = Http::start(bench, "orders_http").await?;
    let pgbench = Pgbench::new(bench, theirs).await?;
    let published = bench.database("orders_pgbench_published").await?;
    let mut relay = bench.service("order", &published, PREFIX_OF_PGBENCH).await?;
    let published_pgbench = Pgbench::new(bench, published).await?;
    let seconds = size.seconds(SECONDS);
    http.run(1).await?; // The first requests connect and prepare.
    published_pgbench.run_published(bench, 1).await?;

    let (mut accepted, mut published) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let ours = http.run(seconds).await?;
        let theirs = pgbench.run(seconds).await?;
        let theirs_published = published_pgbench.run_published(bench, seconds).await?;
        let summary = format!(
            "{:.0} orders/s ({:.0} until the last event was published), pgbench {theirs:.0} ({theirs_published:.0})",
            ours.accepted, ours.published
        );
        report.round("orders", round, size.rounds, &summary);
        accepted.push(Round { ours: ours.accepted, theirs });
        published.push(Round { ours: ours.published, theirs: theirs_published });
    }
    http.stop().await;
    relay.terminate().await;
    Ok(vec![
        Row::rate("orders over HTTP, over pgbench", "orders/s", aiming_at(0.5, 0.75), accepted),
        Row::rate("orders until published, over pgbench", "orders/s", NO_TARGET, published),
    ])
}

/// Orders that were placed, and their rates per second until the last one was accepted, and until
/// the last event was published.
pub(crate) struct Placed {
    pub(crate) orders: usize,
    pub(crate) accepted: f64,
    pub(crate) published: f64,
}

/// The order service, measured over HTTP.
pub(crate) struct Http<'a> {
    bench: &'a Bench,
    prefix: String,
    pub(crate) service: Instance,
    /// Other instances on the same database.
    others: Vec<Instance>,
    url: String,
    pool: PgPool,
}

impl<'a> Http<'a> {
    /// Starts the service with a separate database and separate topics.
    pub(crate) async fn start(bench: &'a Bench, name: &str) -> Fallible<Self> {
        Self::start_variant(bench, name, &Variant { program: "order", settings: &[] }).await
    }

    /// Does the same with a variant of the service.
    pub(crate) async fn start_variant(
        bench: &'a Bench,
        name: &str,
        variant: &Variant,
    ) -> Fallible<Self> {
        let (url, prefix) = (bench.database(name).await?, format!("{name}-"));
        let service = bench.service_with(variant.program, &url, &prefix, variant.settings).await?;
        let pool = servers::pool(&url).await?;
        Ok(Self { bench, prefix, service, others: Vec::new(), url, pool })
    }

    /// Starts another instance on the same database.
    pub(crate) async fn join(&mut self) -> Fallible<()> {
        let other = self.bench.service("order", &self.url, &self.prefix).await?;
        self.others.push(other);
        Ok(())
    }

    pub(crate) async fn stop(mut self) {
        self.service.terminate().await;
        for mut other in self.others {
            other.terminate().await;
        }
    }

    /// Places orders, and waits until their events are published.
    pub(crate) async fn run(&self, seconds: u64) -> Fallible<Placed> {
        clear(&self.pool).await?;
        let settings = self.bench.settings(&self.prefix);
        let before = load::records(&settings, OrderCompleted::TYPE)?;
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds);
        let mut clients = JoinSet::new();
        let ports = std::iter::once(&self.service).chain(&self.others).map(|it| it.http);
        for port in ports.cycle().take(CLIENTS) {
            clients.spawn(post_until(port, until));
        }
        let mut orders = 0;
        while let Some(posted) = clients.join_next().await {
            orders += posted??;
        }
        let accepted = began.elapsed();
        drained(&self.pool).await?;
        let published = began.elapsed();
        expect("orders", rows(&self.pool).await?, orders)?;
        let records = load::records(&settings, OrderCompleted::TYPE)? - before;
        expect("published completions", records, orders)?;
        let rate = |took: Duration| count(orders) / took.as_secs_f64();
        Ok(Placed { orders, accepted: rate(accepted), published: rate(published) })
    }
}

/// A variant of the order service.
pub(crate) struct Variant {
    pub(crate) program: &'static str,
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// Returns the rates of accepted orders of two variants, and the first one, which still runs. Both
/// have a new process in each round, since one process may be faster than another for as long as it
/// lives. The first one is measured before and after the second one, since the later one
/// is slowed by unfinished work.
pub(crate) async fn compare<'a>(
    bench: &'a Bench,
    size: Size,
    round: u32,
    ours: (&str, &Variant),
    theirs: (&str, &Variant),
) -> Fallible<(Round, Http<'a>)> {
    let start = async |(name, variant): (&str, &Variant)| {
        let http = Http::start_variant(bench, &format!("{name}_{round}"), variant).await?;
        http.run(1).await?; // The first requests connect and prepare.
        Fallible::Ok(http)
    };
    let (ours, theirs) = (start(ours).await?, start(theirs).await?);
    let seconds = size.seconds(SECONDS_OF_A_TURN);
    let rate = async |http: &Http<'_>| Fallible::Ok(http.run(seconds).await?.accepted);
    let [first, second, third, fourth] =
        [rate(&ours).await?, rate(&theirs).await?, rate(&theirs).await?, rate(&ours).await?];
    let rates = Round { ours: f64::midpoint(first, fourth), theirs: f64::midpoint(second, third) };
    theirs.stop().await;
    Ok((rates, ours))
}

async fn post_until(port: u16, until: Instant) -> Fallible<usize> {
    let mut client = Client::connect(port).await?;
    let request = order_request();
    let mut accepted = 0;
    while Instant::now() < until {
        let (status, _) = client.send(&request).await?;
        if status != 201 {
            return Err(format!("status {status}").into());
        }
        accepted += 1;
    }
    Ok(accepted)
}

/// pgbench with a script that writes one order.
struct Pgbench {
    command: PathBuf,
    script: PathBuf,
    url: String,
    pool: PgPool,
}

impl Pgbench {
    async fn new(bench: &Bench, url: String) -> Fallible<Self> {
        let pool = servers::pool(&url).await?;
        sqlx::raw_sql("create sequence ids cache 100").execute(&pool).await?;
        fs::create_dir_all(bench.folder())?;
        let script = bench.folder().join("order.sql");
        fs::write(&script, statement(&events()?)?)?;
        Ok(Self { command: bench.postgres_program("pgbench")?, script, url, pool })
    }

    /// Returns the orders per second until the relay of an idle service, which runs on the same
    /// database, has published the last one.
    async fn run_published(&self, bench: &Bench, seconds: u64) -> Fallible<f64> {
        clear(&self.pool).await?;
        let settings = bench.settings(PREFIX_OF_PGBENCH);
        let before = load::records(&settings, OrderCompleted::TYPE)?;
        let began = Instant::now();
        let load = self.load(seconds).await?;
        drained(&self.pool).await?;
        let took = began.elapsed().saturating_sub(load.connecting);
        let orders = rows(&self.pool).await?;
        let records = load::records(&settings, OrderCompleted::TYPE)? - before;
        expect("published completions", records, orders)?;
        Ok(count(orders) / took.as_secs_f64())
    }

    /// Returns the transactions per second.
    async fn run(&self, seconds: u64) -> Fallible<f64> {
        clear(&self.pool).await?;
        Ok(self.load(seconds).await?.rate)
    }

    /// Runs pgbench. Fails if the number of orders differs from that of the transactions.
    async fn load(&self, seconds: u64) -> Fallible<PgbenchRun> {
        let clients = CLIENTS.to_string();
        let output = Command::new(&self.command)
            .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients])
            .args(["-T", &seconds.to_string(), "-f"])
            .args([&self.script, Path::new(&self.url)])
            .output()
            .await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let number = |after: &str| {
            let rest = stdout.split_once(after).map(|(_, rest)| rest.trim_start());
            rest.and_then(|rest| rest.split([' ', '/', '\n']).next()?.parse::<f64>().ok())
        };
        let (Some(rate), Some(done), Some(connecting)) = (
            number("tps = "),
            number("number of transactions actually processed:"),
            number("initial connection time ="),
        ) else {
            return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into());
        };
        let rows = rows(&self.pool).await?;
        if (count(rows) - done).abs() > 0.5 {
            return Err(format!("{rows} orders of {done} transactions").into());
        }
        Ok(PgbenchRun { rate, connecting: Duration::from_secs_f64(connecting / 1000.0) })
    }
}

/// Result of a run of pgbench, as it reports it.
struct PgbenchRun {
    /// Transactions per second, without the time of connecting.
    rate: f64,
    /// Time until all clients were connected. The service's clients connect before they are
    /// measured.
    connecting: Duration,
}

/// Returns the events that the service publishes for a completed order.
fn events() -> Fallible<[Prepared; 2]> {
    let created = OrderCreated(load::order(OrderStatus::Open)?);
    let completed = load::completed(load::order(OrderStatus::Completed)?);
    Ok([outbox::prepare(load::message(1, created))?, outbox::prepare(completed)?])
}

/// Returns one statement that writes the rows of an order, as the service does without the locks
/// and outcomes of its shared statements, with literals for the parameters. The ids ascend as
/// UUIDv7 do.
fn statement(events: &[Prepared]) -> Fallible<String> {
    let events = Columns::of(events);
    let shards: Vec<_> = events.shards.iter().map(ToString::to_string).collect();
    let payloads: Vec<_> = events.payloads.iter().map(|payload| hex(payload)).collect();
    let texts = |all: &[&str]| all.iter().map(|text| literal(text)).collect::<Vec<_>>().join(",");
    let items = serde_json::to_string(&load::order(OrderStatus::Open)?.items)?;
    Ok(format!(
        "with written as (
            insert into orders (id, tenant_id, version, status, customer_email, currency, items, total,
                                created_at, completed_at)
            values (lpad(to_hex(nextval('ids')), 32, '0')::uuid, 'bench', 2, 'completed',
                    'buyer@bench.example', 'EUR', {items}::jsonb, 3250, now(), now())
            returning id),
         keyed as (
            insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
            select null::text, null::text, null::bytea, null::smallint, null::json, null::json
            where null::text is not null and exists (select from written)
         ),
         appended as (
            insert into outbox (shard, topic, key, headers, payload)
            select event.*
            from unnest(array[{}]::smallint[], array[{}]::text[], array[{}]::text[], array[{}]::json[],
                        array[{}]::bytea[]) event
            where exists (select from written)
         )
         select exists (select from written);\n",
        shards.join(","),
        texts(&events.topics),
        texts(&events.keys),
        texts(&events.headers),
        payloads.join(","),
        items = literal(&items),
    ))
}

/// Returns an SQL literal in which pgbench finds no variable.
fn literal(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('\'', "''").replace(':', r"\x3a");
    format!("E'{text}'")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from(r"'\x");
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text + "'"
}

async fn clear(pool: &PgPool) -> Fallible<()> {
    sqlx::raw_sql("truncate orders, outbox").execute(pool).await?;
    Ok(())
}

async fn rows(pool: &PgPool) -> Fallible<usize> {
    let rows: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(pool).await?;
    Ok(usize::try_from(rows)?)
}

async fn drained(pool: &PgPool) -> Fallible<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if !sqlx::query_scalar("select exists (select from outbox)").fetch_one(pool).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the outbox is not drained".into())
}

fn expect(what: &str, found: usize, expected: usize) -> Fallible<()> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} {what}, {expected} expected").into())
    }
}
