//! Alerts as webhooks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use sandbox::testing::eventually;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::house::House;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// An alert fires after 30 s, and resolves a minute after its condition ended.
const PATIENCE: Duration = Duration::from_secs(110);

#[derive(Default)]
struct Receiver {
    /// Id and body of each request.
    requests: Mutex<Vec<(String, Value)>>,
}

impl Receiver {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let receiver = Arc::new(Self::default());
        let router = Router::new().route("/in", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, url)
    }

    fn of(&self, alert: &str, status: &str) -> Vec<(String, Value)> {
        let requests = self.requests.lock().unwrap();
        let of = requests.iter().filter(|(_, it)| it["alert"] == alert && it["status"] == status);
        of.cloned().collect()
    }
}

/// Accepts signed requests. The first request is refused.
async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let id = header("webhook-id");
    if signature::sign(SECRET, &id, timestamp, &body) != Some(header("webhook-signature")) {
        return StatusCode::UNAUTHORIZED;
    }
    let mut requests = receiver.requests.lock().unwrap();
    requests.push((id, serde_json::from_str(&body).unwrap()));
    if requests.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_fires_and_resolves_is_one_signed_post_each() {
    let (receiver, url) = Receiver::start().await;
    let house = House::start(&[("ALERT_WEBHOOK", &url), ("ALERT_WEBHOOK_SECRET", SECRET)]).await;
    house.service.set_ready(false);
    let down = Instant::now();
    // JobsFailed fires too. One job of its kind has failed since the start.
    let fired = async || {
        (receiver.of("ServiceDown", "firing").first().cloned())
            .filter(|_| !receiver.of("JobsFailed", "firing").is_empty())
    };
    let (_, body) = eventually("ServiceDown", PATIENCE, fired).await;
    assert!(down.elapsed() >= Duration::from_secs(25), "{:?}", down.elapsed());
    assert_eq!(
        (&body["service"], &body["value"], &body["threshold"]),
        (&json!("billing"), &json!(1.0), &json!(0.0))
    );
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    assert!(text("summary").contains("billing is not ready"), "{body}");
    assert!(text("since").ends_with('Z') && text("what_to_do").contains("/readyz"), "{body}");
    let (_, jobs) = receiver.of("JobsFailed", "firing").pop().unwrap();
    assert_eq!((&jobs["kind"], &jobs["service"]), (&json!("deliver-webhook"), &json!("billing")));
    let alert = "orderflow_alert{alert=\"ServiceDown\",group=\"\",kind=\"\",service=\"billing\"} 1";
    house.has(alert).await;

    house.service.set_ready(true);
    let up = Instant::now();
    let resolved = async || receiver.of("ServiceDown", "resolved").pop();
    eventually("the end of ServiceDown", PATIENCE, resolved).await;
    assert!(up.elapsed() >= Duration::from_secs(55), "{:?}", up.elapsed());
    let (_, metrics) = house.get("metrics").await.unwrap();
    assert!(!metrics.contains(alert), "{metrics}");
    assert_eq!(receiver.of("JobsFailed", "resolved"), [], "the alert keeps firing");

    // The refused request was repeated with its id.
    let requests = receiver.requests.lock().unwrap();
    assert_eq!(requests[0].0, requests[1].0);
    let ids: std::collections::BTreeSet<_> = requests.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), requests.len() - 1, "{requests:?}");
    assert!(house.log().contains("alert firing") && house.log().contains("alert resolved"));
}
