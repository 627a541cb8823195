//! The HTTP client for webhooks. It connects only to public addresses. It neither follows redirects
//! nor uses a proxy, since both would bypass that check.

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower_service::Service;
use url::Url;

use super::addresses::{Guard, Refused, addresses, public_addresses};
use super::retry_after::retry_after;

/// Time limit of a request, until its response begins.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of a response is read, and its maximum bytes, so that the connection can be
/// reused. It is closed after a longer response.
const REST_LIMIT: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long an idle connection is kept for the next delivery to its host, and how many per host.
/// Tenants choose the hosts, so without these limits idle connections would use up descriptors and
/// memory.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
const MAX_IDLE_PER_HOST: usize = 1;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the request to the target failed")]
    Unreachable(#[source] Error),
    #[error("the target took longer than {TIME_LIMIT:?}")]
    TimedOut,
    /// The webhook was registered before TLS was required, or its exemption was removed.
    #[error(
        "the URL does not begin with https://; delete the webhook and register it with https://"
    )]
    Insecure,
    #[error("requests to the target are not allowed")]
    Refused(#[from] Refused),
    #[error("the target has no usable URL")]
    Url(#[source] axum::http::Error),
}

/// A target's response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
}

type HttpClient = Client<HttpsConnector<HttpConnector<Lookup>>, Full<Bytes>>;

/// Client for webhook targets.
#[derive(Clone)]
pub(crate) struct Targets {
    guard: Guard,
    public: HttpClient,
    /// Connector for exempt hosts.
    exempt: HttpClient,
}

impl Targets {
    pub(crate) fn new(guard: Guard) -> Self {
        let client = |public_only| http_client(Lookup { public_only });
        Self { guard, public: client(true), exempt: client(false) }
    }

    /// Posts JSON. Returns the status of the response and its `Retry-After`.
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: String,
    ) -> Result<Answer, TargetError> {
        if !self.guard.permits_scheme(url) {
            return Err(TargetError::Insecure);
        }
        // The resolver does not see a literal address, so it is checked here.
        self.guard.check_literal(url)?;
        let client = if self.guard.exempts(url) { &self.exempt } else { &self.public };
        let mut request = Request::post(url.as_str().parse::<Uri>().unwrap_or_default())
            .header("content-type", "application/json")
            .header("user-agent", "orderflow")
            .body(Full::from(body))
            .map_err(TargetError::Url)?;
        request.headers_mut().extend(headers);
        let asked = timeout(TIME_LIMIT, client.request(request)).await;
        let answer = asked.map_err(|_| TargetError::TimedOut)?.map_err(TargetError::Unreachable)?;
        let status = answer.status();
        let retry_after = retry_after(status, answer.headers());
        // The status is all that counts, however the response ends.
        let _ = timeout(REST_LIMIT, read_some(answer.into_body())).await;
        Ok(Answer { status, retry_after })
    }
}

fn http_client(lookup: Lookup) -> HttpClient {
    let mut http = HttpConnector::new_with_resolver(lookup);
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_LIMIT));
    let provider = rustls::crypto::ring::default_provider();
    let https = match HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider) {
        Ok(https) => https,
        Err(error) => unreachable!("ring has the default versions of TLS: {error}"),
    };
    let https = https.https_or_http().enable_http1().wrap_connector(http);
    Client::builder(TokioExecutor::new())
        // Without a timer, idle connections would only be closed when their host is used again.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .build(https)
}

async fn read_some(mut answer: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_ANSWER_BYTES {
            return;
        }
    }
}

/// Resolves names for a connector, which connects to one of the checked addresses. So the addresses
/// can't change between check and connection.
#[derive(Clone, Copy)]
struct Lookup {
    public_only: bool,
}

impl Service<Name> for Lookup {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Refused;
    type Future = BoxFuture<'static, Result<Self::Response, Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let public_only = self.public_only;
        Box::pin(async move {
            let host = name.as_str();
            let found =
                if public_only { public_addresses(host).await? } else { addresses(host).await? };
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::webhook::Exceptions;

    #[tokio::test]
    async fn a_name_that_leads_inside_by_now_is_not_dialled() {
        let targets = Targets::new(Guard::new(Exceptions::default()));
        let url = "https://localhost:1/".parse().unwrap();
        let error = targets.post(&url, HeaderMap::new(), String::new()).await.unwrap_err();
        let chain = telemetry::error_chain(&error);
        assert!(chain.contains("not on the public Internet"), "{chain}");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Targets::new(Guard::new(address.to_string().parse().unwrap()));
        let url = format!("http://{address}/").parse().unwrap();
        let answer = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert_ne!(connection.read(&mut [0; 1_024]).await.unwrap(), 0);
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            connection
        };
        let posted = targets.post(&url, HeaderMap::new(), String::new());
        let (posted, mut connection) = tokio::join!(posted, answer);
        assert_eq!(posted.unwrap().status, StatusCode::NO_CONTENT);
        let closed = timeout(3 * IDLE_LIMIT, connection.read(&mut [0])).await;
        assert!(matches!(closed, Ok(Ok(0))), "{closed:?}");
    }
}
