//! The start of a service whose database is unavailable.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chassis::{Config, Service};
use sandbox::testing::{TestSpace, eventually};
use serde_json::Value;
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
