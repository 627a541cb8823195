//! A webhook receiver that answers as the test specifies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A status, and the value of `retry-after`.
type Answer = (u16, Option<String>);

#[derive(Clone, Default)]
struct Shared {
    answer: Arc<Mutex<Option<Answer>>>,
    ids: Arc<Mutex<Vec<String>>>,
    hesitates: watch::Sender<bool>,
}

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    shared: Shared,
}

impl Target {
    /// Listens on a free port and accepts every delivery.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub(crate) fn answers(&self, status: u16, retry_after: Option<&str>) {
        *self.shared.answer.lock().unwrap() = Some((status, retry_after.map(str::to_owned)));
    }

    /// Leaves requests unanswered while `hesitates` is set.
    pub(crate) fn hesitates(&self, hesitates: bool) {
        self.shared.hesitates.send_replace(hesitates);
    }

    /// Returns the `webhook-id` of each request.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.shared.ids.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    shared.ids.lock().unwrap().push(id);
    let mut hesitates = shared.hesitates.subscribe();
    hesitates.wait_for(|hesitates| !hesitates).await.unwrap();
    let answer = shared.answer.lock().unwrap().clone();
    let Some((status, retry_after)) = answer else { return StatusCode::NO_CONTENT.into_response() };
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    if let Some(value) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value.parse().unwrap());
    }
    response
}
