//! Webhooks of one tenant that never respond do not delay those of another.

use std::time::{Duration, Instant};

use playground::Behaviour;
use reqwest::Client;
use sandbox::testing::eventually;
use serde_json::json;

use crate::house::{PATIENCE, completed, register};
use crate::webhook_owner::two;

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_never_answer_delay_only_themselves() {
    const HANGING: usize = 8;
    const ORDERS: usize = 20;
    let (house, hanging, healthy) = two().await;
    hanging.behave(Behaviour { hang: true, ..Behaviour::default() });
    let running = house.start().await;
    for n in 0..HANGING {
        register(&running, &format!("{}/webhooks/{n}", hanging.url())).await;
    }
    let body = json!({ "url": format!("{}/webhooks/healthy", healthy.url()) });
    let of_globex = Client::new().post(format!("http://{}/webhooks", running.http));
    let registered = of_globex.bearer_auth("demo-globex").json(&body).send().await.unwrap();
    assert_eq!(registered.status(), 201);
    for _ in 0..ORDERS {
        house.send(&completed("acme")).await;
    }
    let asked = async || (hanging.received().len() >= HANGING).then_some(());
    eventually("a request to each hanging webhook", PATIENCE, asked).await;

    let mut delays = Vec::new();
    for n in 1..=20 {
        let began = Instant::now();
        house.send(&completed("globex")).await;
        let delivered = async || (healthy.received().len() == n).then_some(());
        eventually("the deliveries to the healthy webhook", PATIENCE, delivered).await;
        delays.push(began.elapsed());
    }
    delays.sort_unstable();
    let (median, slowest) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!(
        "beside {HANGING} hanging webhooks the healthy one: median {median:?}, slowest {slowest:?}"
    );
    assert!(slowest < Duration::from_secs(5), "{delays:?}");
    let of_acme = hanging.received().len();
    assert!(of_acme < HANGING * ORDERS, "the other webhooks still hang: {of_acme}");
    running.shutdown().await;
}
