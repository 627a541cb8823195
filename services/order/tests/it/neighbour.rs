//! A server that records requests and answers as the test specifies.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;

/// Behaviour of the server.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    Answer(u16),
    Hang,
}

/// A recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) what: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: serde_json::Value,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
pub(crate) struct Neighbour {
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
    pub(crate) does: Does,
    pub(crate) url: String,
}

impl Neighbour {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let neighbour = Self { told: Arc::default(), does, url };
        let router = Router::new().fallback(hear).with_state(neighbour.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        neighbour
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

async fn hear(
    State(neighbour): State<Neighbour>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let body = serde_json::from_slice(&body).unwrap();
    let what = format!("{method} {uri}");
    neighbour.told.lock().unwrap().push(Told { what, headers, body });
    match neighbour.does {
        Does::Answer(status) => StatusCode::from_u16(status).unwrap(),
        Does::Hang => std::future::pending().await,
    }
}
