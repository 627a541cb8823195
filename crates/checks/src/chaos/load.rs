//! Places orders over HTTP as a careful client does: it retries failed requests with the same
//! `Idempotency-Key`, and remembers what was answered with 2xx.

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
/// Pause of a worker between two orders.
const PACE: Duration = Duration::from_millis(40);
/// Time for which a client retries. Longer than any fault.
const PATIENCE: Duration = Duration::from_mins(1);

/// An order that was answered with 2xx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) id: Uuid,
    /// `true` if its completion was answered with 2xx, too.
    pub(crate) completed: bool,
    /// `true` if its cancellation was answered with 2xx.
    pub(crate) cancelled: bool,
}

/// State that the workers share.
#[derive(Debug)]
struct Shared {
    port: AtomicU16,
    running: AtomicBool,
    /// `true` if a third of the orders is cancelled.
    cancels: bool,
    placed: Mutex<Vec<Placed>>,
    /// Requests that were rejected with a 4xx, or given up.
    failed: Mutex<Vec<String>>,
}

/// Workers that place orders until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the workers against the order service on a port. With `cancels` they cancel a third
    /// of their orders.
    pub(crate) fn start(port: u16, cancels: bool) -> Self {
        let shared = Shared {
            port: port.into(),
            running: false.into(),
            cancels,
            placed: Mutex::default(),
            failed: Mutex::default(),
        };
        let mut load = Self { shared: Arc::new(shared), workers: Vec::new() };
        load.resume();
        load
    }

    /// Starts the workers again after [`Self::stop`].
    pub(crate) fn resume(&mut self) {
        self.shared.running.store(true, Ordering::SeqCst);
        let worker = |_| tokio::spawn(work(Arc::clone(&self.shared)));
        self.workers = (0..WORKERS).map(worker).collect();
    }

    /// Directs all further requests, retries included, to another instance.
    pub(crate) fn redirect_to(&self, port: u16) {
        self.shared.port.store(port, Ordering::SeqCst);
    }

    /// Returns the number of orders that were accepted so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.placed().len()
    }

    /// Returns the requests that were rejected with a 4xx, or given up: all of them are valid, and
    /// no fault lasts so long.
    pub(crate) fn failed(&self) -> Vec<String> {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the workers finish their orders. Returns all accepted orders.
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

    /// Repeats a request until it succeeds, is rejected with a 4xx that a repetition can't change,
    /// or the client gives up.
    async fn until_done(&self, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
        let key = Uuid::new_v4().to_string();
        let began = Instant::now();
        let mut last = String::from("it was never sent");
        while began.elapsed() < PATIENCE {
            let url = format!("http://127.0.0.1:{}{path}", self.port.load(Ordering::SeqCst));
            let mut request = CLIENT.request(method.clone(), url).bearer_auth("demo-acme");
            request = request.header("idempotency-key", &key).header("if-match", "*");
            if let Some(body) = &body {
                request = request.json(body);
            }
            match request.send().await {
                // A truncated body is requested again, since the client did not receive the whole
                // answer.
                Ok(answer) if answer.status().is_success() => match answer.json().await {
                    Ok(body) => return Some(body),
                    Err(error) => last = error.to_string(),
                },
                Ok(answer) => {
                    last = answer.status().to_string();
                    if is_final(answer.status()) {
                        break;
                    }
                }
                Err(error) => last = error.to_string(),
            }
            sleep(Duration::from_millis(100)).await;
        }
        let took = began.elapsed();
        let failed = format!("{method} {path} failed after {took:.1?}, at last with: {last}");
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        None
    }

    /// Places the order of one customer. Seven of ten complete it at once, the others change it
    /// twice first. A cancellation follows at once; half of the orders that were to be changed
    /// first are cancelled instead of being changed and completed.
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

/// Returns `true` if a repetition gets the same answer. A conflict is the request itself, still in
/// progress, and a frozen service may read a request too late.
fn is_final(status: StatusCode) -> bool {
    let may_pass = [StatusCode::CONFLICT, StatusCode::REQUEST_TIMEOUT].contains(&status);
    status.is_client_error() && !may_pass
}

async fn work(shared: Arc<Shared>) {
    while shared.running.load(Ordering::SeqCst) {
        shared.order().await;
        sleep(PACE).await;
    }
}
