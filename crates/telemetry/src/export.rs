//! The HTTP client of the span exporter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// Time limit of a request.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Sends requests on the runtime, since the exporter calls from its own thread, where hyper finds
/// no reactor. Logs failures, since OpenTelemetry reports them only to a log of its own, which is
/// not compiled in.
#[derive(Debug)]
pub(crate) struct OnRuntime {
    client: Arc<dyn HttpClient>,
    runtime: Handle,
    /// `true` from a failed request until one succeeds, so that each outage is logged once.
    is_failing: AtomicBool,
}

impl OnRuntime {
    /// Creates a client for `http://` and `https://`. Requires a Tokio runtime.
    pub(crate) fn new() -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let https = match HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider) {
            Ok(https) => https,
            Err(error) => unreachable!("ring has the default versions of TLS: {error}"),
        };
        let connector = https.https_or_http().enable_http1().build();
        Self::with_client(Arc::new(HyperClient::new(connector, TIME_LIMIT, None)))
    }

    fn with_client(client: Arc<dyn HttpClient>) -> Self {
        Self { client, runtime: Handle::current(), is_failing: AtomicBool::new(false) }
    }

    /// Logs the begin and the end of an outage.
    fn report(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let has_failed = !answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        if self.is_failing.swap(has_failed, Ordering::Relaxed) == has_failed {
            return;
        }
        match answer {
            Ok(_) if !has_failed => tracing::info!("export of spans succeeds again"),
            Ok(answer) => tracing::warn!(
                status = answer.status().as_u16(),
                "export of spans failed, spans are lost until it succeeds"
            ),
            Err(error) => tracing::warn!(
                error = &**error as &dyn std::error::Error,
                "export of spans failed, spans are lost until it succeeds"
            ),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await }).await;
        let answer = sent.unwrap_or_else(|ended| Err(HttpError::from(ended)));
        self.report(&answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Answers with these statuses in order, and is unavailable where there is none.
    #[derive(Debug)]
    struct Collector(Mutex<VecDeque<Option<u16>>>);

    #[async_trait::async_trait]
    impl HttpClient for Collector {
        async fn send_bytes(&self, _: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            let next = self.0.lock().expect("no panic").pop_front().flatten();
            let status = next.ok_or("connection refused")?;
            Ok(Response::builder().status(status).body(Bytes::new())?)
        }
    }

    /// Stores the levels of this crate's log lines.
    struct CapturingLayer(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for CapturingLayer {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            if event.metadata().target().starts_with("telemetry") {
                self.0.lock().expect("no panic").push(*event.metadata().level());
            }
        }
    }

    #[tokio::test]
    async fn a_collector_that_refuses_is_logged_once_until_it_accepts() {
        let logged = Arc::default();
        let subscriber = Registry::default().with(CapturingLayer(Arc::clone(&logged)));
        let _guard = tracing::subscriber::set_default(subscriber);
        let (accepts, refuses, unavailable) = (Some(200), Some(503), None);
        let answers =
            [accepts, refuses, unavailable, refuses, accepts, accepts, unavailable, accepts];
        let collector = Collector(Mutex::new(VecDeque::from(answers)));
        let client = OnRuntime::with_client(Arc::new(collector));
        for _ in answers {
            let _ = client.send_bytes(Request::new(Bytes::new())).await;
        }
        let expected = [Level::WARN, Level::INFO, Level::WARN, Level::INFO];
        assert_eq!(*logged.lock().expect("no panic"), expected);
    }

    #[tokio::test]
    async fn an_https_collector_is_not_refused_at_the_start() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let request = Request::post(format!("https://{address}/v1/traces"));
        let request = request.body(Bytes::new()).expect("a request");
        let client = OnRuntime::new();
        let sending = tokio::spawn(async move { client.send_bytes(request).await });
        let accepted = timeout(Duration::from_secs(10), listener.accept()).await;
        let (stream, _) = accepted.expect("no connection").expect("a connection");
        let mut first = [0; 1];
        stream.peek(&mut first).await.expect("a byte");
        sending.abort();
        assert_eq!(first, [22], "the record type of a TLS handshake");
    }
}
