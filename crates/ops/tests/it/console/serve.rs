//! `orderflow serve` as a process, and a client like a browser without JavaScript.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use sandbox::testing::eventually;
use sandbox::{Life, Process};

use crate::fake::{Fake, orderflow};

pub(super) struct Serve {
    base: Url,
    _process: Process,
    _logs: tempfile::TempDir,
}

/// The server's response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    cookie: Option<String>,
    pub(super) body: String,
}

/// An operator with a token, and the cookie with the result of the last act.
pub(super) struct Operator<'a> {
    serve: &'a Serve,
    token: Option<&'static str>,
    notice_cookie: Option<String>,
}

impl Serve {
    /// Starts the server with these services, and waits until it has polled them once.
    pub(super) async fn start(services: &[(&str, SocketAddr)]) -> Self {
        let port = sandbox::port::free().unwrap();
        let mut command = orderflow(services, &["serve"]);
        command.env("CONSOLE_ADDR", format!("127.0.0.1:{port}"));
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("ops.log");
        let process = Process::spawn("ops", command, &log, Life::WithParent).unwrap();
        let base = format!("http://127.0.0.1:{port}").parse().unwrap();
        let serve = Self { base, _process: process, _logs: logs };
        let answers = async || {
            let answer = reqwest::get(serve.base.join("metrics").unwrap()).await.ok()?;
            answer.text().await.ok()?.contains("up").then_some(())
        };
        eventually("an answer of serve", Duration::from_secs(30), answers).await;
        serve
    }

    /// Starts the server with this service as billing.
    pub(super) async fn of(fake: &Fake) -> Self {
        Self::start(&[("billing", fake.address)]).await
    }

    /// Returns host and port.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.base.port().unwrap())
    }

    /// Returns an operator on this machine.
    pub(super) fn operator(&self) -> Operator<'_> {
        Operator { serve: self, token: None, notice_cookie: None }
    }

    pub(super) fn operator_with(&self, token: &'static str) -> Operator<'_> {
        Operator { token: Some(token), ..self.operator() }
    }
}

impl Operator<'_> {
    /// Gets a page.
    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Returns a page, which must exist.
    pub(super) async fn page(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form.
    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = self.serve.base.clone();
        form.query_pairs_mut().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned();
        self.send(Method::POST, path, Some(body)).await
    }

    /// Posts a form and follows the redirect.
    pub(super) async fn act(&mut self, path: &str, fields: &[(&str, &str)]) -> (String, String) {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.body);
        let location = answer.location.unwrap();
        (location.clone(), self.page(&location).await)
    }

    async fn send(&mut self, method: Method, path: &str, form: Option<String>) -> Answer {
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        let mut request = client.request(method, self.serve.base.join(path).unwrap());
        request = match self.token {
            Some(token) => request.bearer_auth(token),
            None => request.header("sec-fetch-site", "same-origin"),
        };
        if let Some(notice_cookie) = self.notice_cookie.take() {
            request = request.header("cookie", notice_cookie);
        }
        if let Some(form) = form {
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body(form);
        }
        let answer = request.send().await.unwrap();
        let header = |name| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
        let (location, cookie) = (header("location"), header("set-cookie"));
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap();
        self.notice_cookie = cookie.as_ref().map(|it| it.split(';').next().unwrap().to_owned());
        Answer { status, location, cookie, body }
    }
}

impl Answer {
    pub(super) fn has_cookie(&self) -> bool {
        self.cookie.is_some()
    }
}

/// Fails unless the page contains all of these texts.
pub(super) fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

/// Fails if the page contains one of these texts.
pub(super) fn lacks(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(!page.contains(part), "{part} is in {page}");
    }
}

/// Returns the address of the link with this text.
pub(super) fn link(page: &str, text: &str) -> Option<String> {
    let end = page.find(&format!(">{text}</a>"))?;
    let tag = &page[page[..end].rfind("<a ")?..end];
    let href = tag.split_once("href=\"")?.1.split('"').next()?;
    Some(unescaped(href))
}

/// Returns the fields of the form after `after` that posts to this path.
pub(super) fn form(page: &str, action: &str, after: &str) -> Vec<(String, String)> {
    let page = &page[page.find(after).unwrap_or_else(|| panic!("{after} is not in {page}"))..];
    let start =
        page.find(&format!("action=\"{action}")).unwrap_or_else(|| panic!("no {action}: {page}"));
    let form = &page[start..start + page[start..].find("</form>").unwrap()];
    let inputs = form.split("<input type=\"hidden\" ").skip(1);
    let value = |input: &str, name: &str| {
        let after = input.split_once(&format!("{name}=\""))?.1;
        Some(unescaped(after.split('"').next()?))
    };
    inputs.map(|it| (value(it, "name").unwrap(), value(it, "value").unwrap())).collect()
}

/// Returns fields in the type that a form takes.
pub(super) fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (&**name, &**value)).collect()
}

fn unescaped(text: &str) -> String {
    let mut text = text.to_owned();
    for (escaped, character) in [
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ] {
        text = text.replace(escaped, character);
    }
    text
}
