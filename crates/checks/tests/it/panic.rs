//! A background task of a service panics.

use std::time::Duration;

use chassis::{Config, Service};
use sandbox::testing::TestSpace;

#[tokio::test]
async fn a_service_whose_background_work_panics_says_that_it_is_to_end() {
    let space = TestSpace::new().await;
    let config =
        Config::for_tests(space.database_url(), space.kafka_brokers(), space.topic_prefix());
    let service =
        Service::new("test", config).background(|_, _| Ok(async { panic!("made for the test") }));
    let running = service.start().await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), running.panicked()).await.unwrap();
    assert!(running.shutdown().await, "and it drains");
}
