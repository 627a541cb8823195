use std::collections::BTreeMap;
use std::sync::LazyLock;

use chassis::RunningService;
use contract::OpenApi;
use order::Config;
use reqwest::{Client, Method, RequestBuilder, Response};
use sandbox::testing::TestSpace;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::types::Json;
use telemetry::{LogFormat, Tracing};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Installs the process's subscriber, for tests that read traces or flows.
pub(crate) fn traced() {
    static TRACING: LazyLock<Tracing> =
        LazyLock::new(|| telemetry::init("order", LogFormat::Silent).unwrap());
    LazyLock::force(&TRACING);
}

/// The document that requests and responses are validated against.
pub(crate) static CONTRACT: LazyLock<OpenApi> =
    LazyLock::new(|| OpenApi::new(include_str!("../../../../schemas/http/order.json")));

/// Address on which no server listens.
const NO_KAFKA: &str = "127.0.0.1:1";

/// A running service and its database.
pub(crate) struct App {
    pub(crate) pool: PgPool,
    client: Client,
    url: String,
    runtime: Option<Runtime>,
    running: Option<RunningService>,
}

/// A row of the outbox.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) headers: Json<BTreeMap<String, String>>,
    pub(crate) payload: Vec<u8>,
}

/// Number of rows by table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rows {
    pub(crate) orders: i64,
    pub(crate) keys: i64,
    pub(crate) events: i64,
}

/// A response whose body was read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::with_kafka(&TestSpace::new().await, NO_KAFKA).await
    }

    pub(crate) async fn with_kafka(space: &TestSpace, brokers: &str) -> Self {
        Self::configured(space, brokers, |_| {}).await
    }

    pub(crate) async fn in_space(space: &TestSpace) -> Self {
        Self::with_kafka(space, NO_KAFKA).await
    }

    /// Starts the service with a changed configuration.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::in_space_with(&TestSpace::new().await, configure).await
    }

    pub(crate) async fn in_space_with(
        space: &TestSpace,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        Self::configured(space, NO_KAFKA, configure).await
    }

    /// Starts the service with another URL of the space's database. The test itself connects
    /// directly.
    pub(crate) async fn behind(url: &str, space: &TestSpace) -> Self {
        Self::start_with(space, (url, NO_KAFKA), |_| {}).await
    }

    async fn configured(
        space: &TestSpace,
        brokers: &str,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_with(space, (space.database_url(), brokers), configure).await
    }

    async fn start_with(
        space: &TestSpace,
        (url, brokers): (&str, &str),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config =
            Config::new(chassis::Config::for_tests(url, brokers, space.topic_prefix()));
        configure(&mut config);
        // A runtime of its own: its threads make races real, and the test does not wait until
        // librdkafka gives up an unavailable broker.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let starting = runtime.spawn(order::app::build(config).start());
        let running = starting.await.unwrap().unwrap();
        Self {
            pool: PgPool::connect_lazy(space.database_url()).unwrap(),
            client: Client::new(),
            url: format!("http://{}", running.http),
            runtime: Some(runtime),
            running: Some(running),
        }
    }

    /// Returns the same service with a separate connection pool.
    pub(crate) fn another_client(&self) -> Self {
        let (pool, url) = (self.pool.clone(), self.url.clone());
        Self { pool, client: Client::new(), url, runtime: None, running: None }
    }

    /// Begins the shutdown of the service. The task returns `false` if a part did not end in time.
    pub(crate) fn begin_shutdown(&mut self) -> JoinHandle<bool> {
        let running = self.running.take().unwrap();
        self.runtime.as_ref().unwrap().spawn(running.shutdown())
    }

    /// Returns the admin port's response to a GET.
    pub(crate) async fn admin(&self, path: &str) -> Value {
        let running = self.running.as_ref().unwrap();
        let request = self.client.get(format!("http://{}{path}", running.admin));
        let answer = Answer::read(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Returns the value of a metric without labels, or 0 if it is missing.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        let running = self.running.as_ref().unwrap();
        let metrics = self.client.get(format!("http://{}/metrics", running.admin)).send().await;
        let text = metrics.unwrap().text().await.unwrap();
        let mut lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines.next().map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// Posts to the admin port as the operator. Returns the status.
    pub(crate) async fn operate(&self, path: &str, body: &Value) -> u16 {
        let running = self.running.as_ref().unwrap();
        let request = self.client.post(format!("http://{}{path}", running.admin));
        let request = request.bearer_auth("operator").json(body);
        Answer::read(request.send().await.unwrap()).await.status
    }

    /// Creates a request of the tenant `acme`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as("demo-acme", method, path)
    }

    pub(crate) fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(key)
    }

    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).answer().await
    }

    /// Creates a PATCH of the order with this id.
    pub(crate) fn patch(&self, id: &str) -> RequestBuilder {
        self.request(Method::PATCH, &format!("/orders/{id}"))
    }

    /// Places the order and returns its id.
    pub(crate) async fn place(&self, order: &Value) -> String {
        let answer = self.post("/orders").json(order).answer().await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn rows(&self) -> Rows {
        let count = async |sql| sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        Rows {
            orders: count("select count(*) from orders").await,
            keys: count("select count(*) from idempotency_key").await,
            events: count("select count(*) from outbox").await,
        }
    }

    /// Returns the waiting events of the outbox, as the relay would publish them.
    pub(crate) async fn events(&self) -> Vec<Event> {
        sqlx::query_as("select topic, key, headers, payload from outbox order by id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Event {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn data(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }

    pub(crate) fn version(&self) -> i64 {
        self.header("ce_sequence").parse().unwrap()
    }
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Self {
        let headers = response.headers().iter();
        let text =
            |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
                (name.to_string(), value.to_str().unwrap().to_owned())
            };
        Self {
            status: response.status().as_u16(),
            headers: headers.map(text).collect(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Asserts that the response is a problem with this status whose detail contains `message`.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, message: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], json!(status));
        assert_eq!(problem["title"].as_str().map(str::is_empty), Some(false));
        assert_eq!(problem["correlation_id"], json!(self.header("x-correlation-id")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(message), "{message:?} in {detail:?}");
    }

    /// Removes the headers that differ from request to request.
    pub(crate) fn lasting(mut self) -> Self {
        self.headers.retain(|name, _| name != "date" && name != "x-correlation-id");
        self
    }
}

/// Sends a request and reads the response.
pub(crate) trait Ask {
    async fn answer(self) -> Answer;
}

impl Ask for RequestBuilder {
    async fn answer(self) -> Answer {
        Answer::read(CONTRACT.send(self).await.unwrap()).await
    }
}

/// Returns an order of two books and a pen.
pub(crate) fn an_order() -> Value {
    json!({
        "customer_email": "ada@example.com",
        "currency": "EUR",
        "items": [
            { "sku": "book", "quantity": 2, "unit_price": 1095 },
            { "sku": "pen", "quantity": 1, "unit_price": 250 },
        ],
    })
}

/// Returns [`an_order`] with these fields changed.
pub(crate) fn an_order_with(fields: Value) -> Value {
    let mut order = an_order();
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    order.as_object_mut().unwrap().extend(fields);
    order
}
