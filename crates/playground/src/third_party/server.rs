//! An inventory and webhook receivers with configurable latency and failures, which show the
//! requests that they received.

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;

/// Number of requests to keep, unless another number is given.
const REMEMBERED: usize = 1000;
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Size of the pieces in which a long response is sent, so that it is never in memory completely.
const PIECE: usize = 64 * 1024;

/// Behaviour of the responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Latency of the response.
    pub latency_ms: u64,
    /// Share of requests, 0 to 1, that are answered with `status`.
    pub failure_rate: f64,
    /// Share of webhooks, 0 to 1, whose first attempt is answered with `status`. Later attempts
    /// with the same `webhook-id` are not.
    pub first_try_failure_rate: f64,
    /// Status of a failure.
    pub status: u16,
    /// Sends no response until the behaviour changes.
    pub hang: bool,
    /// Answers 302 with this `Location`.
    pub redirect_to: Option<String>,
    /// Answers with a body of this number of bytes.
    pub body_bytes: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            failure_rate: 0.0,
            first_try_failure_rate: 0.0,
            status: 500,
            hang: false,
            redirect_to: None,
            body_bytes: 0,
        }
    }
}

/// A received request.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// Number of the request, from 1.
    pub number: u64,
    /// Time of the request, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Method, such as `POST`.
    pub method: String,
    /// Path, such as `/webhooks/shop`.
    pub path: String,
    /// Headers as sent, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
    /// Status of the response. `None` while there is none, or if the client disconnected first.
    pub status: Option<u16>,
}

impl Received {
    /// Returns the value of a header. Returns an empty text if it was not sent.
    pub fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|header| header.0 == name);
        header.map_or("", |header| header.1.as_str())
    }
}

/// A third party that runs in this process until it is dropped.
#[derive(Debug)]
pub struct ThirdParty {
    address: SocketAddr,
    state: ServerState,
    serving: JoinHandle<()>,
}

impl ThirdParty {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// Fails if it can't listen.
    pub async fn start() -> Result<Self, Error> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts on an address.
    ///
    /// # Errors
    /// Fails if it can't listen there.
    pub async fn listen(address: SocketAddr) -> Result<Self, Error> {
        Self::listen_and_remember(address, REMEMBERED).await
    }

    /// Starts on a free port of loopback and keeps the last `requests` requests, for tests that
    /// count all of them.
    ///
    /// # Errors
    /// Fails if it can't listen.
    pub async fn start_remembering(requests: usize) -> Result<Self, Error> {
        Self::listen_and_remember((Ipv4Addr::LOCALHOST, 0).into(), requests).await
    }

    async fn listen_and_remember(address: SocketAddr, remembered: usize) -> Result<Self, Error> {
        let failed = |source| Error::Io { doing: format!("listen on {address}"), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = ServerState::new(remembered);
        let router = routes(state.clone());
        let serving = tokio::spawn(async move {
            // It accepts requests until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, serving })
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL, `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the last requests to inventory and webhooks, oldest first: a thousand, or the number
    /// given at the start.
    pub fn received(&self) -> Vec<Received> {
        self.state.received().iter().cloned().collect()
    }

    /// Sets the behaviour from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.behave(behaviour);
    }
}

impl Drop for ThirdParty {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone, Debug)]
struct ServerState {
    remembered: usize,
    received: Arc<Mutex<VecDeque<Received>>>,
    /// Ids of webhooks that were tried under the current behaviour, if it treats first attempts
    /// differently.
    tried: Arc<Mutex<HashSet<String>>>,
    behaviour: Arc<watch::Sender<Behaviour>>,
}

impl ServerState {
    fn new(remembered: usize) -> Self {
        let behaviour = Arc::new(watch::Sender::new(Behaviour::default()));
        Self { remembered, received: Arc::default(), tried: Arc::default(), behaviour }
    }

    fn behave(&self, behaviour: Behaviour) {
        self.tried().clear();
        self.behaviour.send_replace(behaviour);
    }

    fn received(&self) -> MutexGuard<'_, VecDeque<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<String>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this is the first attempt of a webhook, and has to fail.
    fn fails_first_try(&self, rate: f64, headers: &HeaderMap) -> bool {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
        // Ids are kept only while they are needed, because a third party may run for days.
        let (true, Some(id)) = (rate > 0.0, id) else { return false };
        self.tried().insert(id.to_owned()) && fastrand::f64() < rate
    }

    fn remember(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> u64 {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut received = self.received();
        let number = received.back().map_or(0, |last| last.number) + 1;
        if received.len() >= self.remembered {
            received.pop_front();
        }
        received.push_back(Received {
            number,
            at: OffsetDateTime::now_utc(),
            method: method.to_string(),
            path: uri.path().to_owned(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: String::from_utf8_lossy(body).into_owned(),
            status: None,
        });
        number
    }

    fn answered(&self, number: u64, status: StatusCode) {
        let mut received = self.received();
        if let Ok(at) = received.binary_search_by_key(&number, |it| it.number) {
            received[at].status = Some(status.as_u16());
        }
    }

    /// Returns the response of the configured misbehaviour, if there is one.
    async fn misbehave(&self, headers: &HeaderMap) -> Option<Response> {
        let mut behaviour = self.behaviour.subscribe();
        let _ = behaviour.wait_for(|behaviour| !behaviour.hang).await;
        let behaviour = behaviour.borrow().clone();
        tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
        let fails_first_try = self.fails_first_try(behaviour.first_try_failure_rate, headers);
        if fails_first_try || fastrand::f64() < behaviour.failure_rate {
            let status = StatusCode::from_u16(behaviour.status);
            return Some(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response());
        }
        if let Some(elsewhere) = behaviour.redirect_to {
            return Some((StatusCode::FOUND, [(header::LOCATION, elsewhere)]).into_response());
        }
        (behaviour.body_bytes > 0).then(|| long(behaviour.body_bytes).into_response())
    }
}

/// Returns a body of this number of bytes, sent in pieces.
fn long(bytes: u64) -> Body {
    let pieces = futures::stream::unfold(bytes, |left| async move {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; size]));
        (size > 0).then(|| (piece, left - size as u64))
    });
    Body::from_stream(pieces)
}

fn routes(state: ServerState) -> Router {
    Router::new()
        .route("/inventory", post(reserve))
        .route("/webhooks/{name}", post(receive))
        .route("/received", get(show).delete(forget))
        .route("/behaviour", get(behaviour).put(behave))
        .route("/healthz", get(async || "alive\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

async fn reserve(
    State(state): State<ServerState>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = (StatusCode::OK, Json(serde_json::json!({ "reserved": true })));
    answer_to(&state, &method, &uri, &headers, &body, answer.into_response()).await
}

async fn receive(
    State(state): State<ServerState>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = StatusCode::NO_CONTENT.into_response();
    answer_to(&state, &method, &uri, &headers, &body, answer).await
}

async fn answer_to(
    state: &ServerState,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    sound: Response,
) -> Response {
    let number = state.remember(method, uri, headers, body);
    let answer = state.misbehave(headers).await.unwrap_or(sound);
    state.answered(number, answer.status());
    answer
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceivedQuery {
    /// Prefix of the paths to return.
    #[serde(default)]
    path: String,
}

#[derive(Serialize)]
struct ReceivedList {
    received: Vec<Received>,
}

async fn show(
    State(state): State<ServerState>,
    Query(query): Query<ReceivedQuery>,
) -> Json<ReceivedList> {
    let received = state.received();
    let wanted = received.iter().filter(|it| it.path.starts_with(&query.path));
    Json(ReceivedList { received: wanted.cloned().collect() })
}

async fn forget(State(state): State<ServerState>) -> StatusCode {
    state.received().clear();
    StatusCode::NO_CONTENT
}

async fn behaviour(State(state): State<ServerState>) -> Json<Behaviour> {
    Json(state.behaviour.borrow().clone())
}

async fn behave(State(state): State<ServerState>, body: Bytes) -> Response {
    let is_share = |rate: f64| (0.0..=1.0).contains(&rate);
    match serde_json::from_slice::<Behaviour>(&body) {
        Ok(it) if !is_share(it.failure_rate) => {
            (StatusCode::BAD_REQUEST, "failure_rate must be 0 to 1\n").into_response()
        }
        Ok(it) if !is_share(it.first_try_failure_rate) => {
            (StatusCode::BAD_REQUEST, "first_try_failure_rate must be 0 to 1\n").into_response()
        }
        Ok(behaviour) => {
            state.behave(behaviour);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            (StatusCode::BAD_REQUEST, format!("the behaviour: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use sandbox::testing::eventually;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn ask(third_party: &ThirdParty, path: &str) -> TcpStream {
        ask_with(third_party, path, "x-odd: 1").await
    }

    async fn ask_with(third_party: &ThirdParty, path: &str, header: &str) -> TcpStream {
        let mut stream = TcpStream::connect(third_party.address()).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n{header}\r\n\r\n{{}}");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn it_answers_well_and_shows_what_it_received() {
        let third_party = ThirdParty::start().await.unwrap();
        let answer = head(&mut ask(&third_party, "/inventory").await).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("reserved"), "{answer}");
        let answer = head(&mut ask(&third_party, "/webhooks/shop").await).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        let received = third_party.received();
        let paths: Vec<_> = received.iter().map(|it| (it.path.as_str(), it.status)).collect();
        assert_eq!(paths, [("/inventory", Some(200)), ("/webhooks/shop", Some(204))]);
        assert_eq!((received[0].header("x-odd"), received[0].body.as_str()), ("1", "{}"));
    }

    #[tokio::test]
    async fn it_fails_and_redirects_as_it_is_told() {
        let third_party = ThirdParty::start().await.unwrap();
        let failing = Behaviour { failure_rate: 1.0, status: 503, ..Behaviour::default() };
        third_party.behave(failing);
        assert!(head(&mut ask(&third_party, "/inventory").await).await.starts_with("HTTP/1.1 503"));
        let redirect_to = Some("http://10.0.0.1/".into());
        third_party.behave(Behaviour { redirect_to, ..Behaviour::default() });
        let answer = head(&mut ask(&third_party, "/webhooks/a").await).await;
        assert!(answer.starts_with("HTTP/1.1 302") && answer.contains("http://10.0.0.1/"));
    }

    #[tokio::test]
    async fn the_first_try_of_a_webhook_fails_and_further_ones_do_not() {
        let third_party = ThirdParty::start().await.unwrap();
        third_party.behave(Behaviour { first_try_failure_rate: 1.0, ..Behaviour::default() });
        let mut answers = Vec::new();
        for id in ["webhook-id: a", "webhook-id: a", "webhook-id: b", "x-odd: 1"] {
            let answer = head(&mut ask_with(&third_party, "/webhooks/shop", id).await).await;
            answers.push(answer[9..12].to_owned());
        }
        assert_eq!(answers, ["500", "204", "500", "204"]);
    }

    #[tokio::test]
    async fn it_hangs_until_it_behaves_otherwise() {
        let third_party = ThirdParty::start().await.unwrap();
        third_party.behave(Behaviour { hang: true, ..Behaviour::default() });
        let mut stream = ask(&third_party, "/webhooks/a").await;
        eventually("it is received", PATIENCE, async || {
            (third_party.received().len() == 1).then_some(())
        })
        .await;
        assert!(timeout(Duration::from_millis(200), head(&mut stream)).await.is_err());
        assert_eq!(third_party.received()[0].status, None);
        third_party.behave(Behaviour::default());
        assert!(timeout(PATIENCE, head(&mut stream)).await.unwrap().starts_with("HTTP/1.1 204"));
    }

    #[tokio::test]
    async fn a_long_answer_is_sent_for_as_long_as_somebody_reads() {
        let third_party = ThirdParty::start().await.unwrap();
        third_party.behave(Behaviour { body_bytes: 500_000_000, ..Behaviour::default() });
        let mut stream = ask(&third_party, "/webhooks/a").await;
        let mut some = vec![0; 1_000_000];
        timeout(PATIENCE, stream.read_exact(&mut some)).await.unwrap().unwrap();
        drop(stream);
        third_party.behave(Behaviour::default());
        assert!(
            head(&mut ask(&third_party, "/webhooks/a").await).await.starts_with("HTTP/1.1 204")
        );
    }
}
