//! A service that ships parcels.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::{get, post};
use chassis::{Answer, Caller, Config, Path, Problem, RunningService, Service, Submission};
use reqwest::{Client, Method, RequestBuilder, Response};
use sandbox::testing::TestSpace;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// An address on which nothing listens.
const NO_KAFKA: &str = "127.0.0.1:1";

/// A running service.
pub(crate) struct House {
    pub(crate) pool: PgPool,
    pub(crate) running: RunningService,
    client: Client,
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// Starts the service with settings that differ from [`Config::for_tests`].
    pub(crate) async fn with(configure: impl FnOnce(Config) -> Config) -> Self {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        let table = "create table parcel (weight bigint not null, addressee text)";
        sqlx::query(table).execute(&pool).await.unwrap();
        let config = Config::for_tests(space.database_url(), NO_KAFKA, space.topic_prefix());
        let service = Service::new("parcels", configure(config))
            .routes(|parts| routes(parts.pool.clone()))
            .erases(erase);
        Self { pool, running: service.start().await.unwrap(), client: Client::new() }
    }

    /// Creates a request to the public API without a key.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.running.http))
    }

    /// Creates a request to the public API by the tenant `acme`.
    pub(crate) fn acme(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth("demo-acme")
    }

    /// Creates a request to the admin port without a token.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.running.admin))
    }

    /// Requests labels of `bytes` bytes for a tenant, on a separate connection with the smallest
    /// receive buffer, and reads nothing of the response.
    pub(crate) async fn unread_labels(&self, key: &str, bytes: usize) -> TcpStream {
        let head = format!(
            "GET /labels/{bytes} HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {key}\r\n\r\n"
        );
        self.raw(&head).await
    }

    /// Writes `text` to the public port on a separate connection.
    pub(crate) async fn raw(&self, text: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(self.running.http).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Returns the weights of the parcels that were shipped.
    pub(crate) async fn shipped(&self) -> Vec<i64> {
        let weights = "select weight from parcel order by weight";
        sqlx::query_scalar(weights).fetch_all(&self.pool).await.unwrap()
    }
}

async fn erase(pool: PgPool, address: String) -> sqlx::Result<()> {
    let erase = "update parcel set addressee = null where addressee = $1";
    sqlx::query(erase).bind(address).execute(&pool).await.map(drop)
}

fn routes(pool: PgPool) -> Router {
    Router::new()
        .route("/parcels", post(ship))
        .route("/labels/{bytes}", get(labels))
        // An error without a body, like axum's own.
        .route("/broken", get(async || StatusCode::SERVICE_UNAVAILABLE))
        .with_state(pool)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewParcel {
    weight: i64,
}

/// Returns labels of `bytes` bytes, as JSON, for callers with a key.
async fn labels(_: Caller, Path(bytes): Path<usize>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "application/json")], format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))))
}

/// Ships a parcel in a transaction that takes a while.
async fn ship(
    State(pool): State<PgPool>,
    caller: Caller,
    Submission { body: NewParcel { weight }, key }: Submission<NewParcel>,
) -> Result<Answer, Problem> {
    let mut tx = pool.begin().await?;
    if let Some(key) = &key
        && let Some(earlier) = key.claim(&mut tx, &caller.tenant).await?
    {
        return Ok(earlier);
    }
    sqlx::query("insert into parcel (weight) values ($1)").bind(weight).execute(&mut *tx).await?;
    sqlx::query("select pg_sleep(0.1)").execute(&mut *tx).await?;
    let number: String =
        sqlx::query_scalar("select gen_random_uuid()::text").fetch_one(&mut *tx).await?;
    let answer = Answer::new(StatusCode::CREATED, &json!({ "number": number }))?;
    if let Some(key) = &key {
        key.row(&caller.tenant, &answer).keep(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(answer)
}

/// Checks the status of a response, and reads its JSON body.
#[track_caller]
pub(crate) fn read(response: Response, status: u16) -> impl Future<Output = Value> {
    let caller = std::panic::Location::caller();
    async move {
        let given = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(given, status, "{text} ({caller})");
        serde_json::from_str(&text).unwrap()
    }
}
