//! A fake admin API of a service for `orderflow`, with responses set by the test.

mod operations;

pub(crate) use operations::{act_of, job_of};

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::output::{CommandOutput, run};

pub(crate) const TOKEN: &str = "secret";
/// The token of a second operator.
pub(crate) const OTHER_TOKEN: &str = "other";
/// Address on which no broker listens.
const NO_KAFKA: &str = "127.0.0.1:1";

/// State of the service, and the requests that it received.
#[derive(Default)]
pub(crate) struct Known {
    /// Newest first.
    pub(crate) letters: Vec<Value>,
    pub(crate) groups: Vec<Value>,
    pub(crate) replays: Vec<Value>,
    /// Responses of `GET /replays/{id}`, one per request; the last one stays.
    pub(crate) progress: VecDeque<Value>,
    pub(crate) replayed: Vec<Value>,
    /// Number of letters that a change changes: by default all that it names, or 7 by a filter.
    pub(crate) changes: Option<usize>,
    /// Answers every change with this problem.
    pub(crate) refuses: Option<(u16, &'static str)>,
    /// Has no subscriptions, and so no letters.
    pub(crate) without_letters: bool,
    /// Newest first.
    pub(crate) jobs: Vec<Value>,
    /// Newest first.
    pub(crate) acts: Vec<Value>,
    /// Replaces the default, a running billing.
    pub(crate) subscriptions: Option<Vec<Value>>,
    /// Status and body of `/readyz`, if it is not ready.
    pub(crate) readiness: Option<(u16, Value)>,
    pub(crate) metrics: &'static str,
    /// Does not answer requests for metrics and letters.
    pub(crate) hangs: bool,
    /// Does not answer requests for subscriptions, jobs and acts.
    pub(crate) lists_hang: bool,
    /// Maximum page size.
    pub(crate) page: Option<usize>,
    /// Path with query of each request for a list of jobs.
    pub(crate) job_lists: Vec<String>,
    /// Method, path with query, and body of each request for letters, and for a change.
    pub(crate) requests: Vec<(String, String, Value)>,
    /// Tokens of the requests for changes.
    pub(crate) tokens: Vec<String>,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    known: Arc<Mutex<Known>>,
    server: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(known: Known) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::new(Mutex::new(known));
        let server = serve(listener, known.clone());
        Self { address, known, server }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Refuses connections and closes the open ones.
    pub(crate) async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    pub(crate) fn start_again(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.server = serve(socket.listen(64).unwrap(), self.known.clone());
    }

    /// Returns the bodies of the requests with this method and prefix of the path.
    pub(crate) fn bodies(&self, method: &str, path: &str) -> Vec<Value> {
        let known = self.known();
        let requests = known.requests.iter();
        let requests = requests.filter(|(by, at, _)| by == method && at.starts_with(path));
        requests.map(|(_, _, body)| body.clone()).collect()
    }

    /// Returns `orderflow dlq` with this service as billing.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(&[("billing", self.address)], arguments)
    }

    /// Runs the command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> CommandOutput {
        run(self.command(arguments)).await
    }

    /// Runs `orderflow` to its end, with this service as billing.
    pub(crate) async fn orderflow(&self, arguments: &[&str]) -> CommandOutput {
        run(orderflow(&[("billing", self.address)], arguments)).await
    }
}

/// Returns `orderflow dlq`.
pub(crate) fn command(services: &[(&str, SocketAddr)], arguments: &[&str]) -> Command {
    orderflow(services, &[&["dlq"], arguments].concat())
}

pub(crate) fn orderflow(services: &[(&str, SocketAddr)], arguments: &[&str]) -> Command {
    let services = services.iter().map(|(name, address)| format!("{name}=http://{address}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command.args(arguments);
    command.env("ORDERFLOW_SERVICES", services.collect::<Vec<_>>().join(","));
    command.env("OPERATOR_TOKEN", TOKEN).env("KAFKA_BROKERS", NO_KAFKA).env_remove("ADMIN_URL");
    command.stdin(Stdio::null());
    command
}

fn serve(listener: TcpListener, known: Arc<Mutex<Known>>) -> JoinHandle<()> {
    let router = Router::new()
        .route("/dead-letters", get(letters))
        .route("/dead-letters/groups", get(groups))
        .route("/dead-letters/groups/{fingerprint}", put(change))
        .route("/dead-letters/{id}", get(letter).post(change))
        .route("/dead-letters/{id}/payload", put(change))
        .route("/replays", get(replays).post(change))
        .route("/replays/{id}", get(replay))
        .route("/replays/{id}/letters", get(replayed))
        .route("/replays/{id}/{act}", post(change))
        .merge(operations::routes())
        .layer(axum::extract::DefaultBodyLimit::max(4 * 1024 * 1024))
        .with_state(known);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

type Shared = State<Arc<Mutex<Known>>>;
type Conditions = Query<BTreeMap<String, String>>;

fn problem(status: u16, detail: &str) -> Response {
    let problem =
        json!({ "type": "about:blank", "title": "t", "status": status, "detail": detail });
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
}

fn is_operator(headers: &HeaderMap) -> bool {
    token_of(headers).is_some_and(|it| it == TOKEN || it == OTHER_TOKEN)
}

fn token_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn page<T: std::borrow::Borrow<Value> + serde::Serialize>(
    known: &Known,
    plural: &str,
    items: &[T],
    conditions: &BTreeMap<String, String>,
) -> Response {
    let number = |name: &str| conditions.get(name).map(|it| it.parse::<usize>().unwrap());
    let start = number("cursor").unwrap_or(0);
    let limit = number("limit").unwrap_or(100).min(known.page.unwrap_or(1000));
    let end = (start + limit).min(items.len());
    let next = (end < items.len()).then(|| end.to_string());
    Json(json!({ plural: items[start..end], "next_cursor": next })).into_response()
}

fn matching<'a>(
    items: &'a [Value],
    conditions: &BTreeMap<String, String>,
    names: &[&str],
) -> Vec<&'a Value> {
    let matches = |item: &&Value| {
        names.iter().all(|name| conditions.get(*name).is_none_or(|it| item[*name] == **it))
    };
    items.iter().filter(matches).collect()
}

async fn letters(State(known): Shared, uri: Uri, Query(conditions): Conditions) -> Response {
    let hangs = known.lock().unwrap().hangs;
    if hangs {
        std::future::pending::<()>().await;
    }
    let mut known = known.lock().unwrap();
    known.requests.push(("GET".into(), uri.to_string(), Value::Null));
    if known.without_letters {
        return problem(404, "unknown path");
    }
    if conditions.get("from").is_some_and(|from| !from.contains('T')) {
        return problem(400, "from is not a time such as 2026-11-25T10:00:00Z");
    }
    let names = ["group", "status", "subject", "fingerprint"];
    let letters = matching(&known.letters, &conditions, &names);
    page(&known, "dead_letters", &letters, &conditions)
}

async fn groups(State(known): Shared, Query(conditions): Conditions) -> Response {
    let known = known.lock().unwrap();
    let groups = matching(&known.groups, &conditions, &["group"]);
    page(&known, "groups", &groups, &conditions)
}

async fn letter(State(known): Shared, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !is_operator(&headers) {
        return problem(401, "send an operator's token as Authorization: Bearer <token>");
    }
    let known = known.lock().unwrap();
    match known.letters.iter().find(|letter| letter["id"] == *id) {
        Some(letter) => Json(letter).into_response(),
        None => problem(404, "unknown dead letter"),
    }
}

async fn replays(State(known): Shared, Query(conditions): Conditions) -> Response {
    let known = known.lock().unwrap();
    let replays = matching(&known.replays, &conditions, &["group"]);
    page(&known, "replays", &replays, &conditions)
}

async fn replay(State(known): Shared) -> Response {
    let mut known = known.lock().unwrap();
    let last = known.progress.len() == 1;
    let next = if last { known.progress.front().cloned() } else { known.progress.pop_front() };
    next.map_or_else(|| problem(404, "unknown replay"), |replay| Json(replay).into_response())
}

async fn replayed(State(known): Shared, Query(conditions): Conditions) -> Response {
    let known = known.lock().unwrap();
    let letters = matching(&known.replayed, &conditions, &["outcome"]);
    page(&known, "letters", &letters, &conditions)
}

async fn change(
    State(known): Shared,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut known = known.lock().unwrap();
    if !is_operator(&headers) {
        return problem(401, "send an operator's token as Authorization: Bearer <token>");
    }
    known.requests.push((method.to_string(), uri.to_string(), body.clone()));
    known.tokens.extend(token_of(&headers).map(ToOwned::to_owned));
    if let Some((status, detail)) = known.refuses {
        return problem(status, detail);
    }
    match uri.path() {
        "/replays"
            if body["group"] != "billing"
                && known.letters.iter().all(|letter| letter["group"] != body["group"]) =>
        {
            problem(404, "unknown group")
        }
        "/replays" => {
            let started = known.progress[0].clone();
            (StatusCode::CREATED, Json(started)).into_response()
        }
        path if path.starts_with("/replays/") => Json(known.progress[0].clone()).into_response(),
        path if path.starts_with("/dead-letters/groups/") => {
            let known =
                known.groups.iter().find(|it| path.ends_with(it["fingerprint"].as_str().unwrap()));
            match known.cloned() {
                None => problem(404, "there are no dead letters of that fingerprint"),
                Some(mut group) => {
                    group["status"] = body["status"].clone();
                    Json(group).into_response()
                }
            }
        }
        path if path.starts_with("/jobs/") => {
            Json(json!({ "jobs": 7, "skipped": 2 })).into_response()
        }
        path if path.starts_with("/subscriptions/") => {
            Json(json!({ "group": "billing", "rows": 3 })).into_response()
        }
        path if path.ends_with("/payload") => Json(known.letters[0].clone()).into_response(),
        _ => {
            let named = body["ids"].as_array().map(Vec::len);
            let letters = known.changes.or(named).unwrap_or(7);
            Json(json!({ "letters": letters })).into_response()
        }
    }
}

/// Returns a letter that died this number of minutes after ten o'clock.
pub(crate) fn letter_of(group: &str, minute: u32, status: &str) -> Value {
    json!({
        "id": id(minute), "group": group, "event_id": format!("e{minute}"), "event_type": "order.completed",
        "source": "/order", "subject": format!("s{minute}"), "tenant": "acme", "correlation_id": format!("c{minute}"),
        "topic": "order.completed", "partition": 5, "offset": minute, "reason": format!("reason {}", minute % 2),
        "exception": "consumer::Permanent", "fingerprint": format!("f{}", minute % 2), "status": status,
        "outcome": null, "replays": 0, "died_at": format!("2026-11-25T10:{minute:02}:00Z"), "closed_at": null,
        "is_expired": false, "is_edited": false, "key": { "text": "k" }, "value": { "text": "{\"a\":1}" },
        "headers": [], "causes": "", "attempts": [], "edit": null, "traceparent": null, "new_member": minute,
    })
}

/// Returns a group of letters.
pub(crate) fn group_of(group: &str, fingerprint: &str, open: u32, status: &str) -> Value {
    json!({
        "fingerprint": fingerprint, "group": group, "event_type": "order.completed", "exception": "consumer::Permanent",
        "reason": format!("reason of {fingerprint}"), "status": status, "note": null, "by": null, "open": open, "parked": 0,
        "replaying": 0, "resolved": 0, "discarded": 0, "first_at": "2026-11-25T10:00:00Z",
        "last_at": "2026-11-25T10:30:00Z",
    })
}

/// Returns the id of that letter.
pub(crate) fn id(minute: u32) -> String {
    format!("01a20a9a-7779-774a-8232-{minute:012}")
}

/// Returns a replay, with the reasons of its failures.
pub(crate) fn replay_of(status: &str, selected: u64, outcomes: &Value) -> Value {
    json!({
        "id": id(99), "group": "billing", "rehearsal": false, "status": status, "selected": selected,
        "outcomes": outcomes, "rate": null, "ramp": false, "stop_after": null, "force": false, "by": "ada",
        "why": "fixed", "note": null, "requested_at": "2026-11-25T11:00:00Z", "started_at": null, "ended_at": null,
        "failures": [],
    })
}

/// Asserts the exit status, and that the output contains all of these texts.
pub(crate) fn check(ran: &CommandOutput, status: i32, parts: &[&str]) {
    assert_eq!(ran.status, Some(status), "{ran:?}");
    for part in parts {
        assert!(ran.out.contains(part) || ran.err.contains(part), "{part}: {ran:?}");
    }
}

/// Waits until the condition holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not hold within 10 s");
}
