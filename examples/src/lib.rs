#![doc = include_str!("../README.md")]

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use envelope::{Event, Schema, TopicSpec};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::{Instant, sleep};

/// The result of an example program: any error ends it.
pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

static SHIPPED: Schema = Schema::new(include_str!("../schemas/parcel.shipped/1.0.json"));

/// The topic of [`ParcelShipped`], with its publisher's settings.
pub const PARCELS: TopicSpec = TopicSpec::new(ParcelShipped::TYPE).partitions(2);

/// A parcel left the warehouse.
#[derive(Serialize, Deserialize, Debug)]
pub struct ParcelShipped {
    /// Number of the parcel.
    pub parcel: String,
    /// Weight in grams.
    pub grams: i64,
}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        self.parcel.as_str().into()
    }
}

/// Creates a pool of the database in `DATABASE_URL`.
///
/// # Errors
/// If it is not set, or is no URL of a database.
pub fn database() -> Fallible<PgPool> {
    Ok(pool(std::env::var("DATABASE_URL")?.parse()?))
}

/// The crates rely on what such a pool does with the connections of dropped futures.
fn pool(database: PgConnectOptions) -> PgPool {
    pg::PoolOptions::new("example").connect_lazily(database)
}

/// Creates a database on the server in `DATABASE_URL`, and connects to it. Its name ends with the
/// process id.
///
/// # Errors
/// If the server is unavailable or refuses.
pub async fn own_database(name: &str) -> Fallible<PgPool> {
    let server = database()?;
    let name = format!("{name}_{}", std::process::id());
    sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&server).await?;
    let options = (*server.connect_options()).clone().database(&name);
    Ok(pool(options))
}

/// Returns the settings of Kafka clients: `KAFKA_BROKERS`, and `KAFKA_TOPIC_PREFIX` if it is set.
///
/// # Errors
/// If `KAFKA_BROKERS` is not set.
pub fn kafka() -> Fallible<kafka::Settings> {
    let prefix = std::env::var("KAFKA_TOPIC_PREFIX").unwrap_or_default();
    Ok(kafka::Settings::new(std::env::var("KAFKA_BROKERS")?, prefix))
}

/// Calls `ask` until it returns a value, for at most 30 seconds.
///
/// # Errors
/// If it returns none in that time, or fails.
pub async fn until<T>(what: &str, ask: impl AsyncFn() -> Fallible<Option<T>>) -> Fallible<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{what}: not within 30 s").into())
}
