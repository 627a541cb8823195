//! Sign-in with an operator's token, which the services check.

use std::fmt;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures::future::join_all;

use super::Session;
use crate::client::Token;
use crate::console::address::escaped;
use crate::console::fields::{Sent, is_local};
use crate::console::filters;
use crate::console::layout::Page;
use crate::console::{Console, Fields, PageError};

/// Delay before a wrong token is refused.
const REFUSAL: Duration = Duration::from_millis(500);
/// Time limit for the services to identify the token.
const ANSWER: Duration = Duration::from_secs(5);

pub(in crate::console) fn routes() -> Router<Console> {
    Router::new().route("/sign-in", get(show).post(sign_in)).route("/sign-out", post(sign_out))
}

/// Returns the address of the sign-in that leads back to a path.
pub(super) fn address(back: &str) -> String {
    format!("/sign-in?back={}", escaped(back))
}

#[derive(Template)]
#[template(path = "access/sign_in.html")]
struct SignIn {
    page: Page,
    back: String,
    refused: Option<String>,
}

impl SignIn {
    fn new(fields: &Fields, refused: Option<String>) -> Self {
        let back = fields.one("back").filter(|path| is_local(path)).unwrap_or("/").to_owned();
        Self { page: Page::outside("Sign in"), back, refused }
    }
}

async fn show(fields: Fields) -> Result<Response, PageError> {
    Ok(Html(SignIn::new(&fields, None).render()?).into_response())
}

async fn sign_in(
    State(console): State<Console>,
    headers: HeaderMap,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let token = Token(fields.one("token").unwrap_or_default().to_owned());
    let session = match check(&console, token).await {
        Ok(session) => session,
        Err(refused) => {
            tokio::time::sleep(REFUSAL).await;
            let why = refused.to_string();
            tracing::warn!(why, "sign-in refused");
            let page = Html(SignIn::new(&fields, Some(why)).render()?);
            return Ok((StatusCode::FORBIDDEN, page).into_response());
        }
    };
    tracing::info!(operator = session.name(), "operator signed in");
    let cookie = console.access.cookies.sign_in(&headers, &session);
    let cookie = cookie.ok_or_else(|| PageError::usage("The system has no random numbers."))?;
    Ok(([(header::SET_COOKIE, cookie)], fields.back("/")).into_response())
}

/// Removes the cookie. The token stays valid as long as the services accept it.
async fn sign_out(State(console): State<Console>, headers: HeaderMap) -> Response {
    let cookie = console.access.cookies.sign_out(&headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// Why a token starts no session.
enum Refusal {
    Malformed,
    Unknown,
    /// No service has answered.
    Unchecked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "Enter an operator's token.",
            Self::Unknown => {
                "No service knows this token. The services' tokens are in OPERATOR_TOKENS."
            }
            Self::Unchecked => {
                "No service answers, so the token can't be checked. Try again when one does."
            }
        })
    }
}

/// Asks the services for the operator of a session, unless they have confirmed it lately. Returns
/// `None` if they do not know the token any more. A session outlives an outage of all services,
/// which the console has to show. A program has no session, so each of its requests is checked.
pub(super) async fn confirm(console: &Console, session: Session) -> Option<Session> {
    let confirmed = &console.access.confirmed;
    if session.is_signed_in() && confirmed.has(session.token(), Instant::now()) {
        return Some(session);
    }
    match check(console, session.token().clone()).await {
        Ok(checked) if !session.is_signed_in() => return Some(checked),
        Err(Refusal::Unchecked) if !session.is_signed_in() => return None,
        Err(Refusal::Malformed | Refusal::Unknown) => return None,
        Ok(_) | Err(Refusal::Unchecked) => {}
    }
    confirmed.add(session.token(), Instant::now());
    Some(session)
}

/// Asks all services for the token's operator. Returns the session, or the reason why there is
/// none.
async fn check(console: &Console, token: Token) -> Result<Session, Refusal> {
    if token.0.is_empty() || token.0.contains(char::is_control) {
        return Err(Refusal::Malformed);
    }
    let services = console.services.acting_with(token.clone());
    let clients = services.all();
    let asked = clients.iter().map(|client| tokio::time::timeout(ANSWER, client.operator()));
    let (mut names, mut refused) = (Vec::new(), false);
    for answer in join_all(asked).await {
        match answer {
            Ok(Ok(name)) => names.push(name),
            Ok(Err(error)) => refused |= error.is_unauthorized(),
            Err(_) => {}
        }
    }
    if names.is_empty() {
        return Err(if refused { Refusal::Unknown } else { Refusal::Unchecked });
    }
    Ok(Session::signed_in(token, names.into_iter().flatten().next()))
}
