use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consumer::{Options, Subscription};
use defer::Defer;
use jobs::Worker;
use kafka::TopicSpec;
use outbox::RelayWaker;
use pg::Migrations;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::admin;
use crate::config::{Config, ConfigError};
use crate::http::{self, CompletedRequest, OnCompleted};

/// The parts of a service that routes, subscriptions and jobs are built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The service's own database.
    pub pool: PgPool,
    /// Wakes the relay. Call it after a commit that wrote to the outbox.
    pub wake: RelayWaker,
    /// Wakes the job workers. Call it after a commit that enqueued jobs.
    pub jobs: jobs::WorkerWaker,
    /// Creates the service's own instruments, for `/metrics`.
    pub metrics: telemetry::Metrics,
}

pub(crate) type Build<T> = Box<dyn FnOnce(&Parts) -> T + Send>;
type Erasing = Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send>>;
/// Erases an e-mail address from the service's own tables.
pub(crate) type Erase = Arc<dyn Fn(PgPool, String) -> Erasing + Send + Sync>;
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type BuildWorker = Box<dyn FnOnce(&Parts, Worker) -> Result<Worker, ConfigError> + Send>;
pub(super) type BuildTask =
    Box<dyn FnOnce(&Parts, CancellationToken) -> Result<Task, ConfigError> + Send>;

/// A service before its start: the list of its parts.
///
/// ```no_run
/// use std::time::Duration;
///
/// use axum::{Json, Router, extract::State, routing::get};
/// use chassis::{Caller, Config, Problem, Service};
/// use sqlx::PgPool;
///
/// async fn charges(
///     State(pool): State<PgPool>,
///     caller: Caller,
/// ) -> Result<Json<Vec<String>>, Problem> {
///     let parcels = sqlx::query_scalar("select parcel from charges where tenant = $1")
///         .bind(caller.tenant.as_str())
///         .fetch_all(&pool)
///         .await?;
///     Ok(Json(parcels))
/// }
///
/// fn build(config: Config) -> Service {
///     Service::new("accounting", config)
///         .ports(8082, 9182)
///         .routes(|parts| {
///             Router::new().route("/charges", get(charges)).with_state(parts.pool.clone())
///         })
///         .task("prune charges", Duration::from_secs(600), |pool| async move {
///             sqlx::query("delete from charges where settled").execute(&pool).await.map(drop)
///         })
/// }
///
/// # async fn example(config: Config) -> Result<(), chassis::StartError> {
/// let service = build(config).start().await?; // in a test; a binary calls `chassis::main`
/// service.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Service {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    pub(crate) public_port: u16,
    pub(super) admin_port: u16,
    pub(super) migrations: Option<Migrations>,
    pub(crate) publishes: Vec<TopicSpec>,
    pub(crate) routes: Vec<Build<OpenApiRouter>>,
    pub(crate) subscriptions: Vec<(Build<Subscription>, Options)>,
    pub(super) required: Result<(), ConfigError>,
    pub(super) worker: Option<BuildWorker>,
    pub(super) on_completed: Option<Build<OnCompleted>>,
    pub(super) background: Vec<BuildTask>,
    pub(super) erases: Vec<Erase>,
}

impl Service {
    /// Creates a service without routes or subscriptions. `name` is the binary's name and
    /// OpenTelemetry's `service.name`.
    pub fn new(name: &'static str, config: Config) -> Self {
        let service = Self {
            name,
            config,
            public_port: 0,
            admin_port: 0,
            migrations: None,
            publishes: Vec::new(),
            routes: Vec::new(),
            subscriptions: Vec::new(),
            required: Ok(()),
            worker: None,
            on_completed: None,
            background: Vec::new(),
            erases: Vec::new(),
        };
        service
            .task("prune idempotency keys", Duration::from_mins(10), http::prune_idempotency_keys)
            .task("prune acts", Duration::from_hours(1), admin::prune_acts)
    }

    /// Sets the ports on loopback that the service listens on unless the configuration sets
    /// addresses.
    #[must_use]
    pub fn ports(mut self, public: u16, admin: u16) -> Self {
        self.public_port = public;
        self.admin_port = admin;
        self
    }

    /// Adds the result of checking the service's own configuration. An error fails the start.
    #[must_use]
    pub fn requires(mut self, checked: Result<(), ConfigError>) -> Self {
        self.required = self.required.and(checked);
        self
    }

    /// Sets the migrations of the service's own tables, recorded in `_sqlx_migrations`.
    #[must_use]
    pub fn migrations(mut self, migrations: Migrator) -> Self {
        self.migrations = Some(Migrations::new(migrations, pg::DEFAULT_TABLE));
        self
    }

    /// Adds topics that the service publishes to through its outbox. It owns them: missing ones are
    /// created, unless `KAFKA_TOPICS` says otherwise.
    ///
    /// Without any topic the service has no relay: events in its outbox stay there, and `/readyz`
    /// says so.
    #[must_use]
    pub fn publishes(mut self, topics: impl IntoIterator<Item = TopicSpec>) -> Self {
        self.publishes.extend(topics);
        self
    }

    /// Adds routes of the public API. Those of an `OpenApiRouter` are described in the service's
    /// [`ServiceDescription`](crate::ServiceDescription); a plain [`axum::Router`] works, too, but
    /// is not described.
    #[must_use]
    pub fn routes<R: Into<OpenApiRouter>>(
        mut self,
        routes: impl FnOnce(&Parts) -> R + Send + 'static,
    ) -> Self {
        self.routes.push(Box::new(|parts| routes(parts).into()));
        self
    }

    /// Adds a subscription with the default options.
    #[must_use]
    pub fn subscription(
        self,
        subscription: impl FnOnce(&Parts) -> Subscription + Send + 'static,
    ) -> Self {
        self.subscription_with(Options::default(), subscription)
    }

    /// Adds a subscription with these options, unless the configuration sets others.
    #[must_use]
    pub fn subscription_with(
        mut self,
        options: Options,
        subscription: impl FnOnce(&Parts) -> Subscription + Send + 'static,
    ) -> Self {
        self.subscriptions.push((Box::new(subscription), options));
        self
    }

    /// Sets the kinds of jobs: the closure adds a handler for each kind to a worker. Jobs run once
    /// the service is ready. Without it they are never run, which the log says.
    #[must_use]
    pub fn jobs(
        mut self,
        jobs: impl FnOnce(&Parts, Worker) -> Result<Worker, ConfigError> + Send + 'static,
    ) -> Self {
        self.worker = Some(Box::new(jobs));
        self
    }

    /// Sets a hook that is called for every request once its response is known, to defer work about
    /// it.
    #[must_use]
    pub fn on_completed<F>(
        mut self,
        on_completed: impl FnOnce(&Parts) -> F + Send + 'static,
    ) -> Self
    where
        F: Fn(&Defer, &CompletedRequest) + Send + Sync + 'static,
    {
        self.on_completed = Some(Box::new(|parts| Arc::new(on_completed(parts))));
        self
    }

    /// Adds a function that erases a customer, given by e-mail address, from the service's own
    /// tables. `POST /erasures` waits for it.
    #[must_use]
    pub fn erases<F>(mut self, erase: impl Fn(PgPool, String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = sqlx::Result<()>> + Send + 'static,
    {
        self.erases.push(Arc::new(move |pool, address| Box::pin(erase(pool, address))));
        self
    }

    /// Adds a task that runs once the service is ready, until the token is cancelled. `begin` is
    /// called at the start, and fails if the configuration is invalid.
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

    /// Adds a housekeeping task that runs at an interval. A failed run is logged. At shutdown a run
    /// is dropped between or within its statements.
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
                    let done = shutdown.run_until_cancelled(task(pool.clone())).await;
                    if let Some(Err(error)) = done {
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
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
