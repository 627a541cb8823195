//! A fake admin API of a service for `orderflow flow`, with responses set by the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::output::{CommandOutput, run};

/// State of the service, for any requested id.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) service: &'static str,
    /// Ids under which it finds the flow; if empty, any id.
    pub(crate) ids: Vec<&'static str>,
    pub(crate) correlation_ids: Vec<&'static str>,
    pub(crate) steps: Vec<Value>,
    pub(crate) open: Vec<Value>,
    /// Group and event id.
    pub(crate) inbox: Vec<(&'static str, &'static str)>,
    /// Group, type and state.
    pub(crate) subscriptions: Vec<(&'static str, &'static str, &'static str)>,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) ahead_ms: i64,
    /// Members that replace those of the response.
    pub(crate) instead: Value,
    /// Responds with this problem.
    pub(crate) problem: Option<(u16, &'static str)>,
    /// Id and events of each request.
    pub(crate) requests: Vec<(String, Vec<String>)>,
}

impl Known {
    pub(crate) fn new(service: &'static str) -> Self {
        Self {
            service,
            ids: Vec::new(),
            correlation_ids: vec!["c-1"],
            steps: Vec::new(),
            open: Vec::new(),
            inbox: Vec::new(),
            subscriptions: Vec::new(),
            ahead_ms: 0,
            instead: json!({}),
            problem: None,
            requests: Vec::new(),
        }
    }
}

pub(crate) struct Fake {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
    server: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(known: Known) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::new(Mutex::new(known));
        let router = Router::new()
            .route("/flows/{id}", get(flow))
            .route("/subscriptions", get(subscriptions))
            .with_state(known.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, known, server }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Refuses connections from now on.
    pub(crate) async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

/// Services, ordered by name.
pub(crate) struct Services(pub(crate) Vec<Fake>);

impl Services {
    pub(crate) async fn start(known: Vec<Known>) -> Self {
        let mut fakes = Vec::new();
        for known in known {
            fakes.push(Fake::start(known).await);
        }
        Self(fakes)
    }

    pub(crate) fn known(&self, service: &str) -> MutexGuard<'_, Known> {
        self.0.iter().map(Fake::known).find(|it| it.service == service).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.orderflow(&[&["flow"], arguments].concat())
    }

    /// Returns `ORDERFLOW_SERVICES`.
    pub(crate) fn named(&self) -> String {
        let named = self.0.iter().map(|it| format!("{}=http://{}", it.known().service, it.address));
        named.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn orderflow(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
        command.args(arguments);
        command.env("ORDERFLOW_SERVICES", self.named());
        // Address on which no broker listens.
        command.env("KAFKA_BROKERS", "127.0.0.1:1").stdin(Stdio::null());
        for name in ["ADMIN_URL", "JAEGER_URL", "KAFKA_PROPERTIES", "KAFKA_TOPIC_PREFIX"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> CommandOutput {
        run(self.command(arguments)).await
    }
}

impl CommandOutput {
    /// Asserts the exit status and the output. `text` begins with a line break.
    #[track_caller]
    pub(crate) fn is(&self, status: i32, text: &str) {
        let text = text.strip_prefix('\n').unwrap_or(text);
        assert_eq!(
            self.out, text,
            "\n--- printed:\n{}\n--- wanted:\n{text}\n{}",
            self.out, self.err
        );
        assert_eq!(self.status, Some(status), "{}{}", self.out, self.err);
        let wide = self.out.lines().filter(|line| line.chars().count() > 80);
        assert_eq!(wide.filter(|line| !line.starts_with("trace")).count(), 0, "{}", self.out);
    }
}

fn now(ahead_ms: i64) -> String {
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    let now = SystemTime::now();
    let now = if ahead_ms < 0 { now - apart } else { now + apart };
    humantime::format_rfc3339_micros(now).to_string()
}

async fn flow(
    State(known): State<Arc<Mutex<Known>>>,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut known = known.lock().unwrap();
    let events = query.get("events").map(|it| it.split(',').map(ToOwned::to_owned).collect());
    let events: Vec<String> = events.unwrap_or_default();
    known.requests.push((id.clone(), events.clone()));
    if let Some((status, detail)) = known.problem {
        let problem = json!({ "title": "t", "status": status, "detail": detail });
        return (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response();
    }
    let inbox = known.inbox.iter().filter(|(_, event)| events.iter().any(|it| it == event));
    let inbox = inbox.map(|(group, event)| {
        json!({ "group": group, "event_id": event, "received_at": "2026-11-26T01:30:00.135Z" })
    });
    let mut answer = json!({
        "service": known.service, "now": now(known.ahead_ms), "recording": true, "truncated": false, "lost": 0,
        "correlation_ids": [], "steps": [], "open": [], "inbox": inbox.collect::<Vec<_>>(),
    });
    if known.ids.is_empty() || known.ids.contains(&&*id) {
        answer["correlation_ids"] = json!(known.correlation_ids);
        answer["steps"] = json!(known.steps);
        answer["open"] = json!(known.open);
    }
    for (name, value) in known.instead.as_object().unwrap() {
        answer[name] = value.clone();
    }
    Json(answer).into_response()
}

async fn subscriptions(State(known): State<Arc<Mutex<Known>>>) -> Json<Value> {
    let known = known.lock().unwrap();
    let subscriptions = known.subscriptions.iter().map(|(group, event_type, state)| {
        json!({ "group": group, "state": state, "event_types": [event_type], "topics": [event_type],
                "paused": null, "breakers": [], "instances": [] })
    });
    Json(json!({ "subscriptions": subscriptions.collect::<Vec<_>>(), "next_cursor": null }))
}
