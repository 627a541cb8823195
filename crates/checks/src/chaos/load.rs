//! Orders over HTTP, as impatient but careful clients place them: what fails is sent again under its
//! `Idempotency-Key`, and what was answered with 2xx is remembered.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use super::instance::CLIENT;

const WORKERS: usize = 6;
/// A worker's pause between two orders.
const PACE: Duration = Duration::from_millis(40);
/// How long a client goes on trying. Longer than any fault lasts.
const PATIENCE: Duration = Duration::from_mins(1);

/// An order that was answered with 2xx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) id: Uuid,
    /// Its completion was answered with 2xx too.
    pub(crate) completed: bool,
    /// Its cancellation was.
    pub(crate) cancelled: bool,
}

/// What the workers share.
#[derive(Debug)]
struct Shared {
    port: AtomicU16,
    running: AtomicBool,
    /// A third of the orders is cancelled.
    cancels: bool,
    placed: Mutex<Vec<Placed>>,
}

/// Workers that place orders until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts them against the order service on this port. With `cancels` they cancel a third of their orders.
    pub(crate) fn start(port: u16, cancels: bool) -> Self {
        let shared = Arc::new(Shared {
            port: port.into(),
            running: true.into(),
            cancels,
            placed: Mutex::default(),
        });
        let worker = |_| tokio::spawn(work(Arc::clone(&shared)));
        Self { workers: (0..WORKERS).map(worker).collect(), shared }
    }

    /// From now on another instance gets the requests, also those that are tried again.
    pub(crate) fn turn_to(&self, port: u16) {
        self.shared.port.store(port, Ordering::SeqCst);
    }

    /// How many orders were taken so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.placed().len()
    }

    /// Lets the workers end what they are at. Gives all that were taken.
    pub(crate) async fn stop(&mut self) -> Vec<Placed> {
        self.shared.running.store(false, Ordering::SeqCst);
        join_all(self.workers.drain(..)).await;
        self.shared.placed().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn placed(&self) -> std::sync::MutexGuard<'_, Vec<Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request until it is answered well, or refused for good, or nobody waits any more.
    async fn until_done(&self, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
        let key = Uuid::new_v4().to_string();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let url = format!("http://127.0.0.1:{}{path}", self.port.load(Ordering::SeqCst));
            let mut request = CLIENT.request(method.clone(), url).bearer_auth("demo-acme");
            request = request.header("idempotency-key", &key).header("if-match", "*");
            if let Some(body) = &body {
                request = request.json(body);
            }
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                if status.is_success() {
                    // A body that was cut off is asked for again: its 2xx was not seen whole.
                    if let Ok(body) = answer.json().await {
                        return Some(body);
                    }
                } else if status.is_client_error() && status != StatusCode::CONFLICT {
                    return None;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// One customer: seven of ten complete at once, the others change their minds first. Who cancels does so at once, too,
    /// and half of those that change their minds before they complete.
    async fn order(&self) {
        let at_once = fastrand::u8(0..10) < 7;
        let cancels = self.cancels && fastrand::u8(0..3) == 0;
        let items =
            json!([{ "sku": Uuid::new_v4().to_string(), "quantity": 2, "unit_price": 450 }]);
        let body = json!({
            "customer_email": "ada@example.com", "currency": "EUR", "complete": at_once, "items": items,
        });
        let Some(answer) = self.until_done(Method::POST, "/orders", Some(body)).await else {
            return;
        };
        let Some(id) = answer["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()) else { return };
        let stays_open = !at_once && cancels && fastrand::bool();
        let completed = at_once || !stays_open && self.change_and_complete(id).await;
        let cancelled = cancels && self.cancel(id).await;
        self.placed().push(Placed { id, completed, cancelled });
    }

    async fn cancel(&self, id: Uuid) -> bool {
        self.until_done(Method::POST, &format!("/orders/{id}/cancel"), None).await.is_some()
    }

    async fn change_and_complete(&self, id: Uuid) -> bool {
        for n in 0..2 {
            let change = json!({ "customer_email": format!("ada-{n}@example.com") });
            self.until_done(Method::PATCH, &format!("/orders/{id}"), Some(change)).await;
        }
        self.until_done(Method::POST, &format!("/orders/{id}/complete"), None).await.is_some()
    }
}

async fn work(shared: Arc<Shared>) {
    while shared.running.load(Ordering::SeqCst) {
        shared.order().await;
        sleep(PACE).await;
    }
}
