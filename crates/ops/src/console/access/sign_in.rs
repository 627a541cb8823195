//! Sign-in with an operator's token, which the services check.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
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
/// Maximum size of the forms that anyone may send without a session. The token has to fit a cookie,
/// which browsers limit to 4 KiB; the rest is for the path that the sign-in leads back to.
const MAX_FORM: usize = 8 * 1024;

pub(in crate::console) fn routes() -> Router<Console> {
    Router::new()
        .route("/sign-in", get(show).post(sign_in))
        .route("/sign-out", post(sign_out))
        .layer(DefaultBodyLimit::max(MAX_FORM))
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
    let session = match check(&console, token.clone()).await {
        Ok((session, known_by)) => {
            console.access.confirmed.add(&token, known_by, Instant::now());
            session
        }
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
    /// Services have refused it, and these have not answered.
    Unknown {
        silent: BTreeSet<String>,
    },
    /// No service has answered.
    Unchecked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "Enter an operator's token.",
            Self::Unknown { silent } if silent.is_empty() => {
                "No service knows this token. The services' tokens are in OPERATOR_TOKENS."
            }
            Self::Unknown { .. } => {
                "No service that answers knows this token, and others do not answer. The services' \
                 tokens are in OPERATOR_TOKENS."
            }
            Self::Unchecked => {
                "No service answers, so the token can't be checked. Try again when one does."
            }
        })
    }
}

/// Asks the services for the operator of a session, unless they have confirmed it lately. Returns
/// `None` if they do not know the token any more. A session outlives an outage of all services, or
/// of all that knew its token, since the console has to show the outage. A program has no session,
/// so each of its requests is checked.
pub(super) async fn confirm(console: &Console, session: Session) -> Option<Session> {
    let confirmed = &console.access.confirmed;
    if session.is_signed_in() && confirmed.has(session.token(), Instant::now()) {
        return Some(session);
    }
    let checked = check(console, session.token().clone()).await;
    if !session.is_signed_in() {
        return checked.ok().map(|(checked, _)| checked);
    }
    let is_silent = |silent: &BTreeSet<String>| {
        let known_by = confirmed.known_by(session.token());
        !known_by.is_empty() && known_by.is_subset(silent)
    };
    match checked {
        Ok((_, known_by)) => confirmed.add(session.token(), known_by, Instant::now()),
        Err(Refusal::Unchecked) => confirmed.extend(session.token(), Instant::now()),
        Err(Refusal::Unknown { silent }) if is_silent(&silent) => {
            confirmed.extend(session.token(), Instant::now());
        }
        Err(Refusal::Malformed | Refusal::Unknown { .. }) => {
            confirmed.remove(session.token());
            return None;
        }
    }
    Some(session)
}

/// Asks all services for the token's operator. Returns the session, and the services that know the
/// token. Fails with the reason if none of them does.
async fn check(console: &Console, token: Token) -> Result<(Session, BTreeSet<String>), Refusal> {
    if token.0.is_empty() || token.0.contains(char::is_control) {
        return Err(Refusal::Malformed);
    }
    let services = console.services.acting_with(token.clone());
    let clients = services.all();
    let asked = clients.iter().map(|client| tokio::time::timeout(ANSWER, client.operator()));
    let (mut name, mut refused) = (None, false);
    let (mut known_by, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for (client, answer) in clients.iter().zip(join_all(asked).await) {
        match answer {
            Ok(Ok(operator)) => {
                name = name.or(operator);
                known_by.insert(client.service.clone());
            }
            Ok(Err(error)) if error.is_unauthorized() => refused = true,
            Ok(Err(_)) | Err(_) => _ = silent.insert(client.service.clone()),
        }
    }
    match (known_by.is_empty(), refused) {
        (false, _) => Ok((Session::signed_in(token, name), known_by)),
        (true, true) => Err(Refusal::Unknown { silent }),
        (true, false) => Err(Refusal::Unchecked),
    }
}
