//! A server that records requests and answers as the test specifies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;

/// Behaviour of the server.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Answer(u16),
    /// Records and answers a request after this time.
    AnswerAfter(Duration, u16),
    Hang,
}

/// A recorded request.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: serde_json::Value,
}

impl RecordedRequest {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
pub(crate) struct Neighbour {
    pub(crate) requests: Arc<Mutex<Vec<RecordedRequest>>>,
    pub(crate) behaviour: Behaviour,
    pub(crate) url: String,
}

impl Neighbour {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let neighbour = Self { requests: Arc::default(), behaviour, url };
        let router = Router::new().fallback(record).with_state(neighbour.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        neighbour
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.lock().unwrap().clone()
    }
}

async fn record(
    State(neighbour): State<Neighbour>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let body = serde_json::from_slice(&body).unwrap();
    let line = format!("{method} {uri}");
    if let Behaviour::AnswerAfter(time, _) = neighbour.behaviour {
        tokio::time::sleep(time).await;
    }
    neighbour.requests.lock().unwrap().push(RecordedRequest { line, headers, body });
    match neighbour.behaviour {
        Behaviour::Answer(status) | Behaviour::AnswerAfter(_, status) => {
            StatusCode::from_u16(status).unwrap()
        }
        Behaviour::Hang => std::future::pending().await,
    }
}
