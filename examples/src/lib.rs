#![doc = include_str!("../README.md")]

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use envelope::{Event, Schema};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

/// What a program ends with.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

static SHIPPED: Schema = Schema::new(include_str!("../schemas/parcel.shipped/1.0.json"));

/// A parcel left the warehouse.
#[derive(Serialize, Deserialize, Debug)]
pub struct ParcelShipped {
    /// What it is known by.
    pub parcel: String,
    /// Its weight.
    pub grams: i64,
}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        self.parcel.as_str().into()
    }
}

/// Connects to the database that `DATABASE_URL` names.
///
/// # Errors
/// If it is not set, or the database does not answer.
pub async fn database() -> Outcome<PgPool> {
    Ok(PgPool::connect(&std::env::var("DATABASE_URL")?).await?)
}

/// Returns the settings of Kafka clients: `KAFKA_BROKERS`, and `KAFKA_TOPIC_PREFIX` if it is set.
///
/// # Errors
/// If `KAFKA_BROKERS` is not set.
pub fn kafka() -> Outcome<kafka::Settings> {
    let prefix = std::env::var("KAFKA_TOPIC_PREFIX").unwrap_or_default();
    Ok(kafka::Settings::new(std::env::var("KAFKA_BROKERS")?, prefix))
}

/// Asks until there is an answer, for 30 seconds.
///
/// # Errors
/// If there is none, or asking fails.
pub async fn until<T>(what: &str, ask: impl AsyncFn() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{what}: not within 30 s").into())
}
