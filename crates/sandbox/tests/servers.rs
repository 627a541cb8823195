//! Tests of the servers: start, use, failures, detaching and shutdown.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use sandbox::{
    Data, Error, Kafka, Life, Postgres, Process, ProcessRecord, ServerOptions, Servers,
    ServersOptions, Shutdown, Silent, Tools, testing::eventually,
};
use sqlx::{Connection, PgConnection};

const SOON: Duration = Duration::from_secs(10);

fn running(pid: u32) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    !state.stdout.is_empty() && !state.stdout.starts_with(b"Z")
}

async fn ask(url: &str, query: &'static str) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(query).fetch_one(&mut connection).await
}

async fn execute(url: &str, statement: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(statement).execute(&mut connection).await.map(drop)
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "200");
    config.set("group.id", "test").set("auto.offset.reset", "earliest");
    config
}

async fn create_topic(brokers: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create().unwrap();
    let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

async fn send(brokers: &str, topic: &str, text: &str) {
    let producer: FutureProducer = client(brokers).create().unwrap();
    producer.send(FutureRecord::to(topic).key("key").payload(text), SOON).await.unwrap();
}

async fn receive(brokers: &str, topic: &str, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = client(brokers).create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let read = move || {
        // An empty poll may only mean that the group's assignment has changed.
        let polls = std::iter::repeat_with(|| consumer.poll(SOON)).take(100).flatten();
        let texts =
            polls.map(|it| String::from_utf8(it.unwrap().payload().unwrap().into()).unwrap());
        texts.take(count).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn both_work_survive_their_restart_and_leave_nothing() {
    let tools = Tools::find().unwrap();
    let mut servers = Servers::start(ServersOptions::default(), &tools, &Silent).await.unwrap();
    let order = servers.postgres.create_database("order").await.unwrap();
    let billing = servers.postgres.create_database("billing").await.unwrap();
    let brokers = servers.kafka.brokers();

    execute(&order, "create table orders (id bigint); insert into orders values (7)")
        .await
        .unwrap();
    assert_eq!(ask(&order, "select id from orders").await.unwrap(), 7);
    let theirs = billing.replace("/billing", "/order").replace("//order", "//billing");
    let refused = ask(&theirs, "select 1::bigint").await.unwrap_err().to_string();
    assert!(refused.contains("permission denied for database"), "{refused}");
    let wrong = billing.replace("billing:", "billing:x");
    let refused = ask(&wrong, "select 1::bigint").await.unwrap_err().to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let refused = servers.postgres.create_database("a\"b").await.unwrap_err();
    assert!(matches!(refused, Error::DatabaseName(_)), "{refused}");

    create_topic(&brokers, "orders").await;
    send(&brokers, "orders", "before").await;

    for how in [Shutdown::Fast, Shutdown::Immediate] {
        servers.postgres.restart(how).await.unwrap();
        assert_eq!(ask(&order, "select id from orders").await.unwrap(), 7);
    }
    servers.postgres.process().kill_9().await;
    assert!(ask(&order, "select id from orders").await.is_err());
    servers.postgres.start_again().await.unwrap();
    servers.postgres.process().pause();
    let frozen =
        tokio::time::timeout(Duration::from_millis(300), ask(&order, "select 1::bigint")).await;
    assert!(frozen.is_err(), "{frozen:?}");
    servers.postgres.process().resume();
    assert_eq!(ask(&order, "select id from orders").await.unwrap(), 7);

    servers.kafka.halt().await;
    servers.kafka.start_again().await.unwrap();
    send(&brokers, "orders", "between").await;
    servers.kafka.process().kill_9().await;
    let start = Instant::now();
    servers.kafka.start_again().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    send(&brokers, "orders", "after").await;
    assert_eq!(receive(&brokers, "orders", 3).await, ["before", "between", "after"]);

    let folders = [servers.postgres.folder().to_owned(), servers.kafka.folder().to_owned()];
    let pids = [servers.postgres.process().pid(), servers.kafka.process().pid()];
    servers.stop().await;
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    assert!(pids.iter().all(|pid| !running(*pid)), "{pids:?}");
}

#[tokio::test]
async fn dropped_they_are_gone_too() {
    let tools = Tools::find().unwrap();
    let mut postgres = Postgres::start(ServerOptions::default(), &tools, &Silent).await.unwrap();
    let (folder, pid) = (postgres.folder().to_owned(), postgres.process().pid());
    drop(postgres);
    assert!(!folder.exists() && !running(pid));
}

#[tokio::test]
async fn kept_data_is_found_again_and_left_servers_are_stopped_by_their_records() {
    let tools = Tools::find().unwrap();
    // Closed to other users like a home folder, so that the data of Postgres has to be elsewhere if
    // this is root.
    let home = tempfile::tempdir().unwrap();
    let options = || ServersOptions {
        data: Data::Kept(home.path().join("data")),
        logs: Some(home.path().join("logs")),
        life: Life::MayOutlive,
        ..ServersOptions::default()
    };
    let servers = Servers::start(options(), &tools, &Silent).await.unwrap();
    let (url, brokers) =
        (servers.postgres.create_database("order").await.unwrap(), servers.kafka.brokers());
    execute(&url, "create table orders (id bigint); insert into orders values (7)").await.unwrap();
    create_topic(&brokers, "orders").await;
    let lines = servers.detach().await.unwrap().map(|record| record.to_string());

    let records = lines.map(|line| line.parse::<ProcessRecord>().unwrap());
    assert_eq!(ask(&url, "select id from orders").await.unwrap(), 7);
    assert!(records.iter().all(ProcessRecord::is_alive));
    let mut fields: Vec<String> = records[0].to_string().split('\t').map(Into::into).collect();
    fields[2] = "1".into();
    let stranger: ProcessRecord = fields.join("\t").parse().unwrap();
    assert!(!stranger.is_alive() && stranger.stop(SOON).await);
    assert!(records[0].is_alive(), "another process of that id must not be stopped");
    for record in &records {
        assert!(record.stop(SOON).await);
        assert!(!running(record.pid()));
        assert!(record.folder.as_deref().is_some_and(Path::exists));
    }

    let again = ServersOptions { postgres_port: records[0].port, ..options() };
    let servers = Servers::start(again, &tools, &Silent).await.unwrap();
    assert_eq!(
        servers.postgres.create_database("order").await.unwrap(),
        url,
        "the password is kept"
    );
    assert_eq!(ask(&url, "select id from orders").await.unwrap(), 7);
    send(&servers.kafka.brokers(), "orders", "still there").await;
    let postgres_folder = servers.postgres.folder().to_owned();
    servers.stop().await;
    assert!(postgres_folder.join("data").exists());

    fs::remove_dir_all(home.path().join("data")).unwrap();
    let servers = Servers::start(options(), &tools, &Silent).await.unwrap();
    let url = servers.postgres.create_database("order").await.unwrap();
    assert!(ask(&url, "select id from orders").await.is_err(), "removed data does not come back");
    servers.stop().await;
    if !postgres_folder.starts_with(home.path()) {
        fs::remove_dir_all(postgres_folder.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder() {
    let tools = Tools::find().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let options = || ServerOptions { port, ..ServerOptions::default() };
    let me = format!("(process {})", std::process::id());
    let error = Postgres::start(options(), &tools, &Silent).await.unwrap_err().to_string();
    assert!(error.contains(&me), "{error}");
    let error = Kafka::start(options(), &tools, &Silent).await.unwrap_err().to_string();
    assert!(error.contains(&me), "{error}");
}

#[tokio::test]
async fn a_server_that_fails_shows_what_it_logged() {
    let settings = vec![("no_such_setting".into(), "1".into())];
    let options = ServerOptions { settings, ..ServerOptions::default() };
    let error =
        Postgres::start(options, &Tools::find().unwrap(), &Silent).await.unwrap_err().to_string();
    assert!(error.contains("unrecognized configuration parameter"), "{error}");
}

#[tokio::test]
async fn a_process_is_paused_killed_with_its_children_and_not_detached_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("sleep.log");
    let shell = || {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 1000 & echo $!; wait; wait"]);
        command
    };
    let mut process = Process::spawn("sleep", shell(), &log, Life::WithParent).unwrap();
    let child: u32 = eventually("the child's id", SOON, async || {
        fs::read_to_string(&log).ok()?.trim().parse().ok()
    })
    .await;
    process.pause();
    process.resume();
    assert!(process.try_exit().is_none());
    // It ignores SIGTERM.
    process.stop(Duration::from_millis(200)).await;
    eventually("the end of its child", SOON, async || (!running(child)).then_some(())).await;

    let process = Process::spawn("sleep", shell(), &log, Life::WithParent).unwrap();
    let pid = process.pid();
    assert!(matches!(process.detach(), Err(Error::NotDetachable(_))));
    assert!(!running(pid));
}
