use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use consumer::{Consumer, Feed, Options, OptionsError, Subscription};
use defer::{Defer, DeferLayer, Deferrer};
use jobs::Worker;
use kafka::{Settings, Topic};
use outbox::{Relay, Wake};
use pg::Migrations;
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::config::{Config, ConfigError};
use crate::consuming::Consuming;
use crate::flow::{self, Flow, OnServed, Served};
use crate::health::{self, Health};
use crate::problem::Problem;
use crate::{direct, idempotency, server};

/// How long everything together may take to end that brings work in, and what that deferred.
const DRAIN_INTAKE: Duration = Duration::from_secs(6);
/// What is left of it for deferred tasks, whatever the rest took.
const DRAIN_DEFERRED: Duration = Duration::from_millis(500);
/// How long the relay may take after that.
const DRAIN_RELAY: Duration = Duration::from_secs(3);
const BACKOFF: Duration = Duration::from_secs(1);

/// What ends a service before it has begun.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable.
    #[error("the configuration is incomplete")]
    Config(#[from] ConfigError),
    /// It began, and a part of it panicked.
    #[error("a part of the service panicked; it ends, to be started anew")]
    Panicked,
    /// Options of a subscription.
    #[error("the configuration contradicts itself")]
    Options(#[from] OptionsError),
    /// An address that can't be listened on.
    #[error("{variable}={address} can't be listened on")]
    Listen {
        /// The variable that sets it.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A migration failed, and not because the database is away.
    #[error("the database could not be migrated")]
    Migrate(#[from] MigrateError),
    /// No signal can be received.
    #[error("signals can't be received")]
    Signals(#[source] std::io::Error),
}

/// What routes and subscriptions are built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The service's own database.
    pub pool: PgPool,
    /// To be called after a commit that wrote to the outbox.
    pub wake: Wake,
    /// To be called after a commit that enqueued jobs.
    pub jobs: jobs::Wake,
}

type Build<T> = Box<dyn FnOnce(&Parts) -> T + Send>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Jobs = Box<dyn FnOnce(&Parts, Worker) -> Result<Worker, ConfigError> + Send>;
type Begin = Box<dyn FnOnce(&Parts, CancellationToken) -> Result<Task, ConfigError> + Send>;

/// A service: what it is made of, before it runs.
pub struct Service {
    name: &'static str,
    config: Config,
    ports: (u16, u16),
    migrations: Option<Migrations>,
    publishes: Vec<Topic>,
    routes: Vec<Build<Router>>,
    subscriptions: Vec<(Build<Subscription>, Options)>,
    required: Result<(), ConfigError>,
    jobs: Option<Jobs>,
    on_served: Option<Build<OnServed>>,
    background: Vec<Begin>,
}

impl Service {
    /// `name` is the binary's, and OpenTelemetry's `service.name`.
    pub fn new(name: &'static str, config: Config) -> Self {
        let service = Self {
            name,
            config,
            ports: (0, 0),
            migrations: None,
            publishes: Vec::new(),
            routes: Vec::new(),
            subscriptions: Vec::new(),
            required: Ok(()),
            jobs: None,
            on_served: None,
            background: Vec::new(),
        };
        service.task("prune idempotency keys", Duration::from_mins(10), idempotency::prune)
    }

    /// Where it listens on loopback if the configuration does not say: the public and the admin port.
    #[must_use]
    pub fn ports(mut self, public: u16, admin: u16) -> Self {
        self.ports = (public, admin);
        self
    }

    /// What a look at the service's own configuration came to; an error ends the start.
    #[must_use]
    pub fn requires(mut self, checked: Result<(), ConfigError>) -> Self {
        self.required = self.required.and(checked);
        self
    }

    /// The service's own tables.
    #[must_use]
    pub fn migrations(mut self, migrations: Migrator) -> Self {
        self.migrations = Some(Migrations::new(migrations, pg::DEFAULT_TABLE));
        self
    }

    /// The event types that it publishes, through its outbox.
    #[must_use]
    pub fn publishes(mut self, event_types: &[&str]) -> Self {
        self.publishes.extend(event_types.iter().map(|event_type| Topic::event(event_type)));
        self
    }

    /// Routes of the public API.
    #[must_use]
    pub fn routes(mut self, routes: impl FnOnce(&Parts) -> Router + Send + 'static) -> Self {
        self.routes.push(Box::new(routes));
        self
    }

    /// A subscription with the default options.
    #[must_use]
    pub fn subscription(
        self,
        subscription: impl FnOnce(&Parts) -> Subscription + Send + 'static,
    ) -> Self {
        self.subscription_with(Options::default(), subscription)
    }

    /// A subscription.
    #[must_use]
    pub fn subscription_with(
        mut self,
        options: Options,
        subscription: impl FnOnce(&Parts) -> Subscription + Send + 'static,
    ) -> Self {
        self.subscriptions.push((Box::new(subscription), options));
        self
    }

    /// Its kinds of jobs: `worker` with a handler for each. They are run from when the service is ready.
    #[must_use]
    pub fn jobs(
        mut self,
        jobs: impl FnOnce(&Parts, Worker) -> Result<Worker, ConfigError> + Send + 'static,
    ) -> Self {
        self.jobs = Some(Box::new(jobs));
        self
    }

    /// What is told of every request when its answer is known, and defers what there is to do about it.
    #[must_use]
    pub fn on_served<F>(mut self, on_served: impl FnOnce(&Parts) -> F + Send + 'static) -> Self
    where
        F: Fn(&Defer, &Served) + Send + Sync + 'static,
    {
        self.on_served = Some(Box::new(|parts| Arc::new(on_served(parts))));
        self
    }

    /// Work that goes on beside requests and messages, from when the service is ready until the token is
    /// cancelled. `begin` is called at once, and says what is wrong with the configuration.
    #[must_use]
    pub fn background<F>(
        mut self,
        begin: impl FnOnce(&Parts, CancellationToken) -> Result<F, ConfigError> + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let begin = |parts: &Parts, shutdown| Ok(Box::pin(begin(parts, shutdown)?) as Task);
        self.background.push(Box::new(begin));
        self
    }

    /// Housekeeping that is done every so often, and again the next time if it failed.
    #[must_use]
    pub fn task<F>(
        self,
        name: &'static str,
        every: Duration,
        task: impl Fn(PgPool) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = sqlx::Result<()>> + Send + 'static,
    {
        self.background(move |parts, shutdown| {
            let pool = parts.pool.clone();
            Ok(async move {
                while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
                    if let Err(error) = task(pool.clone()).await {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            name,
                            "housekeeping failed"
                        );
                    }
                }
            })
        })
    }

    /// Starts everything, and returns when it is ready. A database that is away is waited for.
    pub async fn start(self) -> Result<Running, StartError> {
        self.required?;
        let database = self.config.database()?;
        let kafka = self.config.kafka()?;
        let tenants = self.config.tenants()?;
        let senders = self.config.senders()?;
        let http = listen("HTTP_ADDR", self.config.http_addr, self.ports.0).await?;
        let admin = listen("ADMIN_ADDR", self.config.admin_addr, self.ports.1).await?;
        let (http_addr, admin_addr) = (address(&http), address(&admin));

        let connections = self.config.database_connections;
        let pool = pg::PoolOptions::new(self.name).max_connections(connections);
        let pool = pool.connect_lazily(database.clone());
        let parts =
            Parts { pool: pool.clone(), wake: Wake::default(), jobs: jobs::Wake::default() };
        let metrics = Metrics::new(self.name);
        let deferrer = Deferrer::new(defer::Options::default(), &metrics.meter("defer"));
        let intake = CancellationToken::new();
        let relaying = CancellationToken::new();
        let (intakes, relays) = (TaskTracker::new(), TaskTracker::new());

        let begun = self.background.into_iter().map(|begin| begin(&parts, intake.clone()));
        let background = begun.collect::<Result<Vec<_>, _>>()?;
        let worker = Worker::new(pool.clone(), parts.jobs.clone(), &metrics.meter("jobs"));
        let worker = self.jobs.map(|jobs| jobs(&parts, worker)).transpose()?;
        let mut consumers = Vec::new();
        for (subscription, options) in self.subscriptions {
            let options = self.config.consuming.over(&options);
            options.check(pg::IDLE_IN_TRANSACTION)?;
            Consuming::fits(&options, connections, DRAIN_INTAKE)?;
            let consumer = consumer(subscription(&parts), &parts, &kafka, &metrics);
            consumers.push(consumer.options(options));
        }

        // The admin port first: it says that the service is not ready yet, and why.
        let (is_up, up) = watch::channel(health::Kafka::Unknown);
        let (has_started, started) = watch::channel(false);
        let subscribes = self.config.consuming.subscribe.0;
        let heard = consumers.iter().filter(|_| subscribes);
        let statuses = heard.map(|consumer| (consumer.group(), consumer.status())).collect();
        let faults = self.config.faults.0.then(|| {
            Arc::new(
                consumers.iter().map(|consumer| (consumer.group(), consumer.faults())).collect(),
            )
        });
        let health = Health::new(pool.clone(), up, statuses, started);
        let operation = admin::routes(Admin {
            health,
            metrics: metrics.clone(),
            pool: pool.clone(),
            jobs: parts.jobs.clone(),
            operator_token: self.config.operator_token.clone(),
            faults,
        });
        relays.spawn(server::serve(admin, operation, relaying.clone()));
        relays.spawn(health::probe(kafka.clone(), is_up, relaying.clone()));

        let drop_guard = relaying.clone().drop_guard();
        migrate(database.clone(), self.migrations).await?;
        drop_guard.disarm();

        let panicked = CancellationToken::new();
        if !self.publishes.is_empty() {
            relays.spawn(ensure_topics(kafka.clone(), self.publishes, relaying.clone()));
            let relay = Relay::new(database, kafka, parts.wake.clone(), &metrics.meter("outbox"));
            relays.spawn(vital("relay", relay.run(relaying.clone()), panicked.clone()));
        }
        let feeds: Vec<_> = consumers.iter().map(Consumer::feed).collect();
        if !subscribes {
            tracing::warn!("SUBSCRIBE=off: nothing is consumed from Kafka");
            consumers.clear();
        }
        for consumer in consumers {
            intakes.spawn(vital("consumer", consumer.run(intake.clone()), panicked.clone()));
        }
        if let Some(worker) = worker {
            intakes.spawn(vital("jobs", worker.run(intake.clone()), panicked.clone()));
        }
        for task in background {
            intakes.spawn(vital("background task", task, panicked.clone()));
        }
        intakes.spawn(tenants.clone().keep_current(intake.clone()));
        intakes.spawn(senders.clone().keep_current(intake.clone()));
        let on_served = self.on_served.map(|on_served| on_served(&parts));
        let flow = Flow::new(tenants, senders, &metrics.meter("http"), on_served);
        let own = self.routes.into_iter().map(|routes| routes(&parts));
        let router = public(own.fold(Router::new(), Router::merge), feeds, flow)
            // The outermost: what is deferred waits for the response that is really sent.
            .layer(DeferLayer::new(deferrer.clone()));
        intakes.spawn(server::serve(http, router, intake.clone()));
        has_started.send_replace(true);
        tracing::info!(http = %http_addr, admin = %admin_addr, "ready");
        Ok(Running {
            http: http_addr,
            admin: admin_addr,
            pool,
            intake,
            intakes,
            deferrer,
            relaying,
            relays,
            panicked,
            _started: Arc::new(has_started),
        })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    /// Where the public API listens.
    pub http: SocketAddr,
    /// Where the admin port listens.
    pub admin: SocketAddr,
    pool: PgPool,
    /// What brings work in: requests, messages, housekeeping. Ends first.
    intake: CancellationToken,
    intakes: TaskTracker,
    /// What requests left to do.
    deferrer: Deferrer,
    /// What carries work out: the relay, and the admin port. Ends when nothing comes in any more.
    relaying: CancellationToken,
    relays: TaskTracker,
    panicked: CancellationToken,
    _started: Arc<watch::Sender<bool>>,
}

impl Running {
    /// Returns when a part panicked without which the service is none: it is to be ended, and started anew.
    pub async fn panicked(&self) {
        self.panicked.cancelled().await;
    }

    /// Stops taking work in, drains, then stops. False: something did not end within the time it has.
    pub async fn shutdown(self) -> bool {
        self.intake.cancel();
        self.intakes.close();
        let began = Instant::now();
        let taken_in = tokio::time::timeout(DRAIN_INTAKE, self.intakes.wait()).await.is_ok();
        let left = DRAIN_INTAKE.saturating_sub(began.elapsed()).max(DRAIN_DEFERRED);
        let dropped = self.deferrer.drain(left).await.dropped;
        if dropped > 0 {
            tracing::warn!(dropped, "deferred tasks were dropped since the start");
        }
        self.relaying.cancel();
        self.relays.close();
        let carry_out = async {
            self.relays.wait().await;
            self.pool.close().await;
        };
        let carried_out = tokio::time::timeout(DRAIN_RELAY, carry_out).await.is_ok();
        taken_in && carried_out
    }
}

/// Dropped without a shutdown, as when a test fails, it stops all the same: threads that went on polling would
/// keep the process.
impl Drop for Running {
    fn drop(&mut self) {
        self.intake.cancel();
        self.relaying.cancel();
    }
}

/// The service's own routes and the direct feed, within a flow.
fn public(own: Router, feeds: Vec<Feed>, flow: Flow) -> Router {
    let router = if feeds.is_empty() { own } else { own.merge(direct::routes(feeds)) };
    router
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            let title = "Method not allowed";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, title, "this path takes other methods")
        })
        .layer(middleware::from_fn_with_state(flow, flow::serve))
}

/// A consumer that wakes the relay and the worker for what its handlers write.
fn consumer(
    subscription: Subscription,
    parts: &Parts,
    kafka: &Settings,
    metrics: &Metrics,
) -> Consumer {
    let Parts { pool, wake, jobs } = parts.clone();
    let consumer = Consumer::new(subscription, pool, kafka.clone(), &metrics.meter("consumer"));
    consumer.on_commit(move || {
        wake.wake();
        jobs.wake();
    })
}

/// Work without which the service would look well and do nothing.
async fn vital(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
    panicked: CancellationToken,
) {
    if let Err(error) = tokio::spawn(work).await {
        tracing::error!(error = &error as &dyn std::error::Error, name, "a part panicked");
        panicked.cancel();
    }
}

async fn listen(
    variable: &'static str,
    given: Option<SocketAddr>,
    port: u16,
) -> Result<TcpListener, StartError> {
    let address = given.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into());
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| StartError::Listen { variable, address, source })
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| (Ipv4Addr::LOCALHOST, 0).into())
}

/// Applies the migrations of every crate, then the service's own, and waits for a database that is unavailable.
///
/// Uses a connection without the time limits of the service's sessions: a migration may take longer than a statement.
async fn migrate(database: PgConnectOptions, own: Option<Migrations>) -> Result<(), MigrateError> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(database);
    let migrated = apply(pool.clone(), own).await;
    pool.close().await;
    migrated
}

/// One by one, so that what is done and logged is not done again when the database is unavailable in between.
async fn apply(pool: PgPool, own: Option<Migrations>) -> Result<(), MigrateError> {
    let chassis = Migrations::new(sqlx::migrate!("./migrations"), "_chassis_migrations");
    when_available(|| chassis.run(&pool)).await?;
    when_available(|| outbox::migrate(&pool)).await?;
    when_available(|| consumer::migrate(&pool)).await?;
    when_available(|| jobs::migrate(&pool)).await?;
    match own {
        Some(own) => when_available(|| own.run(&pool)).await,
        None => Ok(()),
    }
}

/// Migrates, again and again while the database is unavailable.
async fn when_available<F>(migrate: impl Fn() -> F) -> Result<(), MigrateError>
where
    F: Future<Output = Result<(), MigrateError>>,
{
    loop {
        match migrate().await {
            Err(MigrateError::Execute(error)) if pg::is_unavailable(&error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "database unavailable, retrying"
                );
                tokio::time::sleep(BACKOFF).await;
            }
            ended => return ended,
        }
    }
}

/// Topics of one's own are ensured in the background: a service without Kafka is ready all the same.
async fn ensure_topics(kafka: Settings, topics: Vec<Topic>, shutdown: CancellationToken) {
    while let Some(Err(error)) = shutdown.run_until_cancelled(kafka::ensure(&kafka, &topics)).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "topics are not ensured yet");
        shutdown.run_until_cancelled(tokio::time::sleep(BACKOFF)).await;
    }
}
