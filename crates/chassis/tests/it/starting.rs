//! The start of a service: without its database, and with parts that do not fit.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chassis::{Config, Service, StartError};
use consumer::{Failure, Handler, Options, Received, Subscription};
use envelope::{Event, Schema};
use sandbox::testing::{TestSpace, eventually};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{PgConnection, PgPool, SqlSafeStr};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns an address on loopback that is free.
fn free() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, sandbox::port::free().unwrap()).into()
}

#[tokio::test]
async fn a_service_that_waits_for_its_database_takes_no_connection() {
    let space = TestSpace::new().await;
    let url = space.database_url();
    let (_, role) = url.rsplit_once('/').unwrap();
    space.as_superuser(&format!("alter role {role} nologin")).await;
    let (public, admin) = (free(), free());
    let config = Config::for_tests(url, "127.0.0.1:1", space.topic_prefix());
    let service = Service::new("parcels", config.http_on(public).admin_on(admin));
    let waits = async || {
        let report = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
        let report: Value = report.json().await.ok()?;
        report["starting"].is_string().then_some(())
    };
    let then = async {
        eventually("it to wait for its database", PATIENCE, waits).await;
        let refused = TcpStream::connect(public).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        space.as_superuser(&format!("alter role {role} login")).await;
    };
    let (started, ()) = tokio::join!(Box::pin(service.start()), then);
    let running = started.unwrap();
    assert_eq!(running.http, public);
    TcpStream::connect(public).await.unwrap();
    running.shutdown().await;
}

#[tokio::test]
async fn events_of_a_service_without_a_relay_are_reported() {
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    outbox::migrate(&pool).await.unwrap();
    let row =
        "insert into outbox (shard, topic, key, headers, payload) values (0, 't', 'k', '{}', '')";
    sqlx::query(row).execute(&pool).await.unwrap();
    let config = Config::for_tests(space.database_url(), "127.0.0.1:1", space.topic_prefix());
    let running = Service::new("parcels", config).start().await.unwrap();
    let url = format!("http://{}/readyz", running.admin);
    let reason = async || {
        let report: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        Some(report["outbox"][0].as_str()?.to_owned())
    };
    let reason = eventually("the report", PATIENCE, reason).await;
    assert!(reason.contains("Service::publishes"), "{reason}");
    sqlx::query("delete from outbox").execute(&pool).await.unwrap();
    let well = async || {
        let report: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        report["outbox"].is_null().then_some(())
    };
    eventually("the end of the report", PATIENCE, well).await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_migration_that_waits_for_a_table_holds_up_its_users_for_seconds() {
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    sqlx::query("create table parcel (weight int)").execute(&pool).await.unwrap();
    let mut dump = pool.begin().await.unwrap();
    sqlx::query("select from parcel").execute(&mut *dump).await.unwrap();
    let alter = "alter table parcel add addressee text".into_sql_str();
    let alter = Migration::new(1, "parcel".into(), MigrationType::Simple, alter, false);
    let config = Config::for_tests(space.database_url(), "127.0.0.1:1", space.topic_prefix());
    let service =
        Service::new("parcels", config).migrations(Migrator::with_migrations(vec![alter]));
    let then = async {
        let waits = "select from pg_locks where relation = 'parcel'::regclass and not granted";
        let waits = async || sqlx::query(waits).fetch_optional(&pool).await.unwrap().map(drop);
        eventually("the migration to wait", PATIENCE, waits).await;
        // A user of the earlier release, behind the migration.
        let used = sqlx::query("select from parcel").execute(&pool);
        tokio::time::timeout(PATIENCE, used).await.unwrap().unwrap();
        dump.commit().await.unwrap();
    };
    let (started, ()) = tokio::join!(Box::pin(service.start()), then);
    started.unwrap().shutdown().await;
}

static SHIPPED: Schema = Schema::new(r#"{ "$id": "https://example.com/parcel.shipped/1.0.json" }"#);

#[derive(Serialize, Deserialize)]
struct ParcelShipped {}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        "P-17".into()
    }
}

struct Ignore;

impl Handler for Ignore {
    type Event = ParcelShipped;

    async fn handle(
        &self,
        _: &mut PgConnection,
        _: &[Received<ParcelShipped>],
    ) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test]
async fn two_subscriptions_of_one_name_do_not_start() {
    let config = Config::for_tests("postgres://localhost/parcels", "127.0.0.1:1", "");
    let options = || Options { lanes: 1, ..Options::default() };
    let parcels = |_: &_| Subscription::new("parcels").each_once(Ignore);
    let service = Service::new("parcels", config)
        .subscription_with(options(), parcels)
        .subscription_with(options(), parcels);
    let refused = service.start().await.unwrap_err();
    assert!(
        matches!(&refused, StartError::SameSubscription(name) if name == "parcels"),
        "{refused:?}"
    );
}
