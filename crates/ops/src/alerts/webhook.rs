//! Sends alerts as webhooks, signed according to Standard Webhooks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tracker::AlertChange;
use crate::error::Error;

/// Time limit for the receiver's response.
const ANSWER: Duration = Duration::from_secs(10);
/// The wait before the first retry, and the maximum up to which it doubles.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_mins(1);
/// Maximum number of attempts, which take about a quarter of an hour.
const ATTEMPTS: u32 = 20;
/// Maximum number of waiting changes while the receiver is unavailable.
const QUEUE: usize = 1000;
/// Time limit for the remaining changes at shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// The receiver of alerts.
#[derive(Clone)]
pub(crate) struct Target {
    url: Uri,
    secret: String,
}

/// A POST failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("the receiver answered {0}")]
    Answered(StatusCode),
    #[error("the receiver did not answer within {ANSWER:?}")]
    TimedOut,
    #[error("the receiver is unavailable")]
    Unavailable(#[source] hyper_util::client::legacy::Error),
    #[error("the request can't be created")]
    Request(#[from] axum::http::Error),
}

impl PostError {
    /// Returns `true` if a retry can't succeed, as after a redirect, which is not followed. The
    /// following alerts must not wait for this one.
    fn is_final(&self) -> bool {
        let Self::Answered(status) = self else { return false };
        let for_now = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        !status.is_server_error() && !for_now.contains(status)
    }
}

impl Target {
    /// Reads `ALERT_WEBHOOK` and `ALERT_WEBHOOK_SECRET`. Returns `None` if neither is set.
    pub(crate) fn read(url: &str, secret: &str) -> Result<Option<Self>, Error> {
        if url.is_empty() {
            return Ok(None);
        }
        let parsed: Option<Uri> = url.parse().ok();
        let parsed = parsed.filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
        let url = parsed.ok_or_else(|| {
            Error::Refused("ALERT_WEBHOOK is not a URL that begins with http:// or https://".into())
        })?;
        if signature::sign(secret, "id", 0, "").is_none() {
            return Err(Error::Refused(
                "ALERT_WEBHOOK_SECRET is not a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64; \
                 `echo whsec_$(openssl rand -base64 32)` makes one"
                    .into(),
            ));
        }
        Ok(Some(Self { url, secret: secret.to_owned() }))
    }
}

/// Sends changes of alerts in order.
pub(crate) struct Webhook {
    changes: mpsc::Sender<AlertChange>,
    sending: tokio::task::JoinHandle<()>,
}

impl Webhook {
    /// Starts the sender. Without a target, changes are only logged.
    pub(crate) fn start(target: Option<Target>, shutdown: CancellationToken) -> Self {
        let (changes, waiting) = mpsc::channel(QUEUE);
        let sending = tokio::spawn(async move {
            match target {
                Some(target) => Sender::new(target, shutdown).send_all(waiting).await,
                None => log_all(waiting).await,
            }
        });
        Self { changes, sending }
    }

    /// Logs a change and queues it.
    pub(crate) fn send(&self, change: AlertChange) {
        log(&change);
        if self.changes.try_send(change).is_err() {
            tracing::error!("alert dropped, too many wait for ALERT_WEBHOOK");
        }
    }

    /// Sends the queued changes within a time limit.
    pub(crate) async fn drain(self) {
        drop(self.changes);
        if tokio::time::timeout(DRAIN, self.sending).await.is_err() {
            tracing::warn!("alerts lost at shutdown");
        }
    }
}

fn log(change: &AlertChange) {
    let (_, active) = change.parts();
    let condition = &active.condition;
    let (alert, subject) = (condition.rule.name, &condition.subject);
    let (service, group, kind) = (&*subject.service, &*subject.group, &*subject.kind);
    let (value, summary) = (condition.value, &*condition.summary);
    match change {
        AlertChange::Firing(_) => {
            let what_to_do = condition.what_to_do();
            tracing::warn!(alert, service, group, kind, value, summary, what_to_do, "alert firing");
        }
        AlertChange::Resolved(_) => {
            tracing::info!(alert, service, group, kind, "alert resolved");
        }
    }
}

async fn log_all(mut waiting: mpsc::Receiver<AlertChange>) {
    while waiting.recv().await.is_some() {}
}

struct Sender {
    target: Target,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    shutdown: CancellationToken,
}

impl Sender {
    fn new(target: Target, shutdown: CancellationToken) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let https = match HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider) {
            Ok(https) => https,
            Err(error) => unreachable!("ring has the default versions of TLS: {error}"),
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let https = https.https_or_http().enable_http1().wrap_connector(http);
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https);
        Self { target, client, shutdown }
    }

    async fn send_all(&self, mut waiting: mpsc::Receiver<AlertChange>) {
        while let Some(change) = waiting.recv().await {
            self.deliver(&change.body().to_string()).await;
        }
    }

    /// Sends a change, with retries. The id is the same in all attempts, so that the receiver
    /// recognises duplicates.
    async fn deliver(&self, body: &str) {
        let id = format!("msg_{}", Uuid::now_v7().simple());
        let mut backoff = FIRST_BACKOFF;
        for attempt in 1..=ATTEMPTS {
            let Err(error) = self.post(&id, body).await else { return };
            let is_last = attempt == ATTEMPTS || error.is_final() || self.shutdown.is_cancelled();
            report(&id, attempt, &error, is_last);
            if is_last {
                return;
            }
            let waiting = tokio::time::sleep(backoff);
            self.shutdown.run_until_cancelled(waiting).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    async fn post(&self, id: &str, body: &str) -> Result<(), PostError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(now.as_secs()).unwrap_or_default();
        // Signing can't fail, because the secret was checked at the start.
        let signature = signature::sign(&self.target.secret, id, timestamp, body);
        let request = Request::post(self.target.url.clone())
            .header("content-type", "application/json")
            .header("user-agent", "orderflow")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature.unwrap_or_default())
            .body(Full::from(body.to_owned()))?;
        let answer = tokio::time::timeout(ANSWER, self.client.request(request)).await;
        let answer = answer.map_err(|_| PostError::TimedOut)?.map_err(PostError::Unavailable)?;
        // Redirects are not followed, because the signature is meant for this receiver.
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(PostError::Answered(status)),
        }
    }
}

fn report(id: &str, attempt: u32, error: &PostError, is_last: bool) {
    let error = error as &dyn std::error::Error;
    if is_last {
        tracing::error!(id, attempt, error, "alert not sent, given up");
    } else {
        tracing::warn!(id, attempt, error, "alert not sent, retrying");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_can_not_be_used_is_refused_at_the_start() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(Target::read("", "").unwrap().is_none());
        assert!(Target::read("https://alerts.example/in", secret).unwrap().is_some());
        for (url, secret, expected) in [
            ("alerts.example", secret, "ALERT_WEBHOOK is not"),
            ("ftp://x/", secret, "ALERT_WEBHOOK is not"),
            ("https://x/", "hunter2", "ALERT_WEBHOOK_SECRET"),
            ("https://x/", "", "ALERT_WEBHOOK_SECRET"),
        ] {
            let error = Target::read(url, secret).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    /// Answers connections one after the other with these statuses, and returns the requests.
    async fn answering(
        statuses: &'static [&'static str],
    ) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let mut requests = Vec::new();
            for status in statuses {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                requests.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                let answer = format!(
                    "HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (url, serving)
    }

    #[tokio::test]
    async fn what_is_not_taken_is_sent_again_under_its_id() {
        let (url, serving) =
            answering(&["503 Busy", "429 Too Many Requests", "204 No Content"]).await;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let target = Target::read(&url, secret).unwrap().unwrap();
        Sender::new(target, CancellationToken::new()).deliver("{}").await;
        let requests = serving.await.unwrap();
        assert!(requests.iter().all(|it| it.starts_with("POST /in ")), "{requests:?}");
        let ids = requests.iter().map(|it| it.lines().find(|it| it.starts_with("webhook-id")));
        let ids: Vec<_> = ids.map(Option::unwrap).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    /// Sends two alerts, of which the first is answered with the first status.
    async fn deliver_two(statuses: &'static [&'static str]) {
        let (url, serving) = answering(statuses).await;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let sender =
            Sender::new(Target::read(&url, secret).unwrap().unwrap(), CancellationToken::new());
        let sending = async {
            for body in ["\"refused\"", "\"next\""] {
                sender.deliver(body).await;
            }
        };
        tokio::time::timeout(LAST_BACKOFF, sending).await.unwrap();
        let requests = serving.await.unwrap();
        assert!(requests.iter().all(|it| it.starts_with("POST /in ")), "{requests:?}");
        assert!(requests[0].contains("refused") && requests[1].contains("next"), "{requests:?}");
    }

    #[tokio::test]
    async fn an_alert_that_is_refused_holds_up_no_other_one() {
        deliver_two(&["400 Bad Request", "204 No Content"]).await;
    }

    #[tokio::test]
    async fn a_redirect_ends_the_attempts() {
        deliver_two(&["302 Found", "204 No Content"]).await;
    }

    #[tokio::test]
    async fn at_shutdown_it_is_tried_once_more_and_no_longer_waited_for() {
        let (url, serving) = answering(&["503 Busy"]).await;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let target = Target::read(&url, secret).unwrap().unwrap();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let sending = async { Sender::new(target, shutdown).deliver("{}").await };
        tokio::time::timeout(FIRST_BACKOFF / 2, sending).await.unwrap();
        assert_eq!(serving.await.unwrap().len(), 1);
    }
}
