use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use consumer::{Consumer, Feed, Options, OptionsError, Subscription, Suspects};
use defer::{DeferLayer, Deferrer};
use jobs::Worker;
use kafka::TopicSpec;
use outbox::{Relay, RelayWaker};
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use telemetry::{FlowSteps, Metrics};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;

use super::builder::{Build, BuildTask, BuildWorker, Erase, Parts, Service, Task};
use super::migrate::migrate;
use super::own_topics::ensure_topics;
use super::running::{DRAIN_INTAKE, RunningService};
use super::unserved::UnservedWork;
use crate::admin::{
    self, Acts, Admin, Health, Operators, OutboxReasons, Startup, Subscribed, TopicProblems,
};
use crate::config::{Config, ConfigError};
use crate::events::direct_feed;
use crate::flow::{FlowStore, Recorder};
use crate::http::{self, OnCompleted, RequestLayer, Senders, Tenants};

/// Connections for operators and for the maintenance of all subscriptions, which is short and rare.
/// Erasures, discards and restores of letters, which may take minutes, take turns.
const HOUSEKEEPING_CONNECTIONS: u32 = 3;
const HOUSEKEEPING_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of flow steps in memory: those of half a second at 1,000 orders a second, about
/// 4 MB.
const FLOW_STEPS: usize = 4_000;

/// Why a service did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable is missing or invalid.
    #[error("the configuration is incomplete")]
    Config(#[from] ConfigError),
    /// A vital task panicked after the start.
    #[error("a vital task panicked; the service ends so that it is restarted")]
    Panicked,
    /// Options of a subscription contradict each other.
    #[error("the configuration contradicts itself")]
    Options(#[from] OptionsError),
    /// Two subscriptions have one name, so each would get a part of the events.
    #[error(
        "two subscriptions are named {0}: their handlers would each miss what the other one gets"
    )]
    SameSubscription(String),
    /// An address can't be listened on.
    #[error("can't listen on {variable}={address}")]
    Listen {
        /// The variable that sets it.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A migration failed, for another reason than an unavailable database.
    #[error("the database could not be migrated")]
    Migrate(#[from] MigrateError),
    /// A pooler in front of the database shares sessions between connections.
    #[error(
        "DATABASE_URL leads through a pooler that changes sessions between transactions (PgBouncer with \
         pool_mode=transaction or statement): set pool_mode=session for this database, or connect to Postgres itself"
    )]
    SharedSessions,
    /// Signal handlers can't be installed.
    #[error("signals can't be received")]
    Signals(#[source] std::io::Error),
}

impl Service {
    /// Starts the service, and returns when it is ready.
    ///
    /// Waits for an unavailable database, and does not wait for Kafka.
    ///
    /// # Errors
    /// Fails if the configuration is invalid, an address can't be listened on, or a migration
    /// fails.
    pub async fn start(self) -> Result<RunningService, StartError> {
        self.required?;
        let settings = Settings::read(&self.config)?;
        let admin = Bound::to("ADMIN_ADDR", self.config.admin_address(self.admin_port))?;
        let admin_address = admin.address;
        // Before the public address is bound, which fails if both are the same.
        let admin = admin.listen()?;
        let public = Bound::to("HTTP_ADDR", self.config.http_address(self.public_port))?;
        let addresses = (public.address, admin_address);
        let start = Start::new(self.name, self.config, settings, addresses);
        let work = start.build_work(self.subscriptions, self.worker, self.background)?;
        let erases = Arc::new(self.erases);

        // The admin port starts first, to report that the service is not ready yet, and why.
        let relay = start.relay(&self.publishes);
        let (events, unserved_events) = watch::channel(Vec::new());
        let outbox = relay.as_ref().map(|relay| OutboxReasons::Relay(relay.status()));
        let outbox = outbox.unwrap_or(OutboxReasons::NoRelay(unserved_events));
        let (startup, problems) = start.serve_admin(admin, &work, erases, outbox);
        migrate(start.settings.database.clone(), self.migrations, &startup).await?;
        // Not earlier: clients would connect and wait for the database, beyond any limit.
        let listener = public.listen()?;

        start.record_flows();
        start.find_unserved(relay.is_some(), work.worker.is_some(), events);
        if let Some(relay) = relay {
            start.publish(self.publishes, problems, relay);
        }
        let feeds = work.consumers.iter().map(Consumer::feed).collect();
        start.run(work);
        let router = start.public_router(self.routes, feeds, self.on_completed);
        start.running.intake.spawn(http::serve(
            listener,
            router,
            (start.config.http_keep_alive(), http::max_connections(consumer::container_limit())),
            start.running.intake.shutdown(),
        ));
        startup.send_replace(Startup::Done);
        tracing::info!(http = %start.running.http, admin = %start.running.admin, "service ready");
        Ok(start.running)
    }
}

/// Settings that are read and checked first.
struct Settings {
    database: PgConnectOptions,
    kafka: kafka::Settings,
    tenants: Tenants,
    senders: Senders,
    operators: Operators,
}

impl Settings {
    fn read(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            database: config.database()?,
            kafka: config.kafka()?,
            tenants: config.known_tenants()?,
            senders: config.senders()?,
            operators: config.operators()?,
        })
    }
}

/// Work that is built before the migrations, so that errors of the configuration end the start, and
/// runs after them.
struct Work {
    consumers: Vec<Consumer>,
    worker: Option<Worker>,
    background: Vec<Task>,
}

/// A start in progress. Dropping it stops the running tasks.
struct Start {
    name: &'static str,
    config: Config,
    settings: Settings,
    metrics: Metrics,
    parts: Parts,
    /// Separate connections for operators and maintenance, so that requests and handlers can't
    /// block them.
    housekeeping: PgPool,
    /// A separate connection for readiness.
    readiness: PgPool,
    flows: FlowStore,
    running: RunningService,
}

impl Start {
    fn new(
        name: &'static str,
        config: Config,
        settings: Settings,
        (http, admin): (SocketAddr, SocketAddr),
    ) -> Self {
        let metrics = Metrics::new(name);
        let pool = pg::PoolOptions::new(name)
            .max_connections(config.database_connections())
            .connect_lazily(settings.database.clone());
        let housekeeping = pg::PoolOptions::new(&format!("{name}.housekeeping"))
            .max_connections(HOUSEKEEPING_CONNECTIONS)
            .acquire_timeout(HOUSEKEEPING_TIMEOUT)
            .connect_lazily(settings.database.clone());
        let readiness = pg::PoolOptions::new(&format!("{name}.readiness"))
            .max_connections(1)
            .acquire_timeout(admin::ACQUIRE_TIMEOUT)
            .connect_lazily(settings.database.clone());
        let flows = flows(name, &config, &settings.database);
        let deferrer = Deferrer::new(defer::Options::default(), &metrics.meter("defer"));
        let running = RunningService::new(http, admin, pool.clone(), deferrer);
        let (wake, jobs) = (RelayWaker::default(), jobs::WorkerWaker::default());
        let parts = Parts { pool, wake, jobs, metrics: metrics.clone() };
        Self { name, config, settings, metrics, parts, housekeeping, readiness, flows, running }
    }

    fn build_work(
        &self,
        subscriptions: Vec<(Build<Subscription>, Options)>,
        worker: Option<BuildWorker>,
        background: Vec<BuildTask>,
    ) -> Result<Work, StartError> {
        let shutdown = || self.running.intake.shutdown();
        let background = background.into_iter().map(|build| build(&self.parts, shutdown()));
        let background = background.collect::<Result<_, _>>()?;
        let worker = worker.map(|build| {
            let (pool, wake) = (self.parts.pool.clone(), self.parts.jobs.clone());
            let worker = Worker::new(pool, wake, &self.metrics.meter("jobs"));
            build(&self.parts, worker.flow_steps(self.flows.steps.clone()))
        });
        let (policy, memory) = (self.config.topic_policy(), self.config.consumer_memory());
        let suspects = Suspects::default();
        let subscriptions: Vec<_> = subscriptions
            .into_iter()
            .map(|(build, options)| (build, self.config.subscription_options(&options)))
            .collect();
        let all: Vec<_> = subscriptions.iter().map(|(_, options)| options).collect();
        self.config.check_subscriptions(&all, DRAIN_INTAKE)?;
        let consumers = subscriptions.into_iter().map(|(build, options)| {
            options.check(pg::IDLE_IN_TRANSACTION)?;
            let consumer = self.consumer(build(&self.parts)).options(options);
            Ok(consumer.topic_policy(policy).memory(&memory).suspects(&suspects))
        });
        let consumers = consumers.collect::<Result<Vec<_>, StartError>>()?;
        let mut groups = BTreeSet::new();
        if let Some(again) = consumers.iter().find(|it| !groups.insert(it.group())) {
            return Err(StartError::SameSubscription(again.group()));
        }
        Ok(Work { consumers, worker: worker.transpose()?, background })
    }

    /// Creates a consumer that wakes the relay and the job workers after each commit.
    fn consumer(&self, subscription: Subscription) -> Consumer {
        let Parts { pool, wake, jobs, metrics: _ } = self.parts.clone();
        let (kafka, meter) = (self.settings.kafka.clone(), self.metrics.meter("consumer"));
        let consumer = Consumer::new(subscription, pool, kafka, &meter);
        let consumer = consumer.flow_steps(self.flows.steps.clone());
        consumer.housekeeping(self.housekeeping.clone()).on_commit(move || {
            wake.wake();
            jobs.wake();
        })
    }

    /// Serves the admin port and probes Kafka. Returns the senders of the start's progress and of
    /// topic problems.
    fn serve_admin(
        &self,
        listener: TcpListener,
        work: &Work,
        erases: Arc<Vec<Erase>>,
        outbox: OutboxReasons,
    ) -> (watch::Sender<Startup>, TopicProblems) {
        let (startup, started) = watch::channel(Startup::default());
        let (kafka, kafka_state) = admin::kafka_state();
        let (problems, topics) = watch::channel(Vec::new());
        let consumes = self.config.subscribes();
        let subscribed = work.consumers.iter().map(|consumer| Subscribed {
            group: consumer.group(),
            event_types: consumer.event_types().into_iter().collect(),
            topics: consumer.topics().into_iter().collect(),
            status: consumes.then(|| consumer.status()),
        });
        let subscribed: Vec<_> = subscribed.collect();
        let statuses =
            subscribed.iter().filter_map(|it| Some((it.group.clone(), it.status.clone()?)));
        let statuses = statuses.collect();
        let letters = work.consumers.iter().filter(|_| consumes).map(Consumer::letters);
        let faults = work.consumers.iter().map(|consumer| (consumer.group(), consumer.faults()));
        let router = admin::routes(Admin {
            service: self.name,
            health: Health::new(
                self.readiness.clone(),
                kafka_state,
                topics,
                outbox,
                statuses,
                started,
                self.running.intake.shutdown(),
            ),
            metrics: self.metrics.clone(),
            pool: self.housekeeping.clone(),
            jobs: self.parts.jobs.clone(),
            operators: self.settings.operators.clone(),
            subscriptions: Arc::new(subscribed),
            letters: Arc::new(letters.collect()),
            acts: Acts::new(self.housekeeping.clone()),
            flows: self.flows.clone(),
            erases,
            faults: self.config.allows_faults().then(|| Arc::new(faults.collect())),
        });
        let outlet = &self.running.outlet;
        let limits = (self.config.http_keep_alive(), http::MIN_CONNECTIONS);
        outlet.spawn(http::serve(listener, router, limits, outlet.shutdown()));
        outlet.spawn(admin::probe_kafka(self.settings.kafka.clone(), kafka, outlet.shutdown()));
        (startup, problems)
    }

    /// Starts the recorder of flow steps.
    fn record_flows(&self) {
        let (meter, recording) = (self.metrics.meter("flow"), &self.running.recording);
        let recorder = Recorder::new(self.flows.clone(), self.config.flow_steps_bytes(), &meter);
        recording.spawn(recorder.run(recording.shutdown()));
    }

    /// Starts to look for events and jobs that nothing takes.
    fn find_unserved(&self, has_relay: bool, has_worker: bool, events: watch::Sender<Vec<String>>) {
        let intake = &self.running.intake;
        let unserved =
            UnservedWork { pool: self.housekeeping.clone(), has_relay, has_worker, events };
        intake.spawn(unserved.watch(intake.shutdown()));
    }

    /// Creates the relay of a service that publishes.
    fn relay(&self, topics: &[TopicSpec]) -> Option<Relay> {
        if topics.is_empty() {
            return None;
        }
        let (database, kafka) = (self.settings.database.clone(), self.settings.kafka.clone());
        let meter = self.metrics.meter("outbox");
        let relay = Relay::new(database, kafka, self.parts.wake.clone(), &meter);
        Some(relay.flow_steps(self.flows.steps.clone()))
    }

    /// Starts the relay, and creates the topics in the background: a service is ready without
    /// Kafka.
    fn publish(&self, topics: Vec<TopicSpec>, problems: TopicProblems, relay: Relay) {
        let kafka = self.settings.kafka.clone();
        let RunningService { outlet, panicked, .. } = &self.running;
        let policy = self.config.topic_policy();
        outlet.spawn(ensure_topics(kafka, topics, policy, problems, outlet.shutdown()));
        outlet.spawn_vital("relay", relay.run(outlet.shutdown()), panicked);
    }

    /// Starts the intake, except for the public API.
    fn run(&self, work: Work) {
        let RunningService { intake, panicked, .. } = &self.running;
        if self.config.subscribes() {
            for consumer in work.consumers {
                intake.spawn_vital("consumer", consumer.run(intake.shutdown()), panicked);
            }
        } else {
            tracing::warn!("consumption disabled by SUBSCRIBE=off");
        }
        if let Some(worker) = work.worker {
            intake.spawn_vital("jobs", worker.run(intake.shutdown()), panicked);
        }
        for task in work.background {
            intake.spawn_vital("background task", task, panicked);
        }
        let Settings { tenants, senders, operators, .. } = &self.settings;
        let reload = || self.running.reload.clone();
        intake.spawn(tenants.clone().keep_current(reload(), intake.shutdown()));
        intake.spawn(senders.clone().keep_current(reload(), intake.shutdown()));
        intake.spawn(operators.clone().keep_current(reload(), intake.shutdown()));
    }

    /// Builds the public API: the service's own routes and the direct feed.
    fn public_router(
        &self,
        routes: Vec<Build<OpenApiRouter>>,
        feeds: Vec<Feed>,
        on_completed: Option<Build<OnCompleted>>,
    ) -> Router {
        let own = routes.into_iter().map(|build| build(&self.parts));
        let mut all = own.fold(OpenApiRouter::new(), OpenApiRouter::merge);
        if !feeds.is_empty() {
            all = all.merge(direct_feed::routes(feeds));
        }
        let Settings { tenants, senders, .. } = &self.settings;
        let on_completed = on_completed.map(|build| build(&self.parts));
        let meter = self.metrics.meter("http");
        let keys = (tenants.clone(), senders.clone());
        let layer = RequestLayer::new(keys, self.config.http_memory(), &meter, on_completed)
            .flow_steps(self.flows.steps.clone())
            .tenant_limits(self.config.tenant_limits());
        layer
            .wrap(all.into())
            // The outermost layer, so that deferred work waits for the final response.
            .layer(DeferLayer::new(self.running.deferrer.clone()))
    }
}

/// Creates the store of flow steps with a separate connection, so that steps and requests never
/// wait for each other.
fn flows(name: &str, config: &Config, database: &PgConnectOptions) -> FlowStore {
    let steps =
        if config.records_flow_steps() { FlowSteps::new(FLOW_STEPS) } else { FlowSteps::off() };
    let pool = pg::PoolOptions::new(&format!("{name}.flow"))
        .setting("synchronous_commit", "off")
        .max_connections(1)
        .acquire_timeout(HOUSEKEEPING_TIMEOUT)
        .connect_lazily(database.clone());
    FlowStore::new(steps, pool)
}

/// An address that is bound and takes no connections yet.
struct Bound {
    variable: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

impl Bound {
    fn to(variable: &'static str, address: SocketAddr) -> Result<Self, StartError> {
        let refused = |source| StartError::Listen { variable, address, source };
        let socket = http::bind(address).map_err(refused)?;
        // With port 0 the system chooses the port.
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { variable, address, socket })
    }

    fn listen(self) -> Result<TcpListener, StartError> {
        let Self { variable, address, socket } = self;
        http::listen(socket).map_err(|source| StartError::Listen { variable, address, source })
    }
}
