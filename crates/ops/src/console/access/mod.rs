//! Access control of the console.
//!
//! A session is stateless: the cookie contains the operator's token, encrypted. So several
//! instances of the console share sessions, and sessions outlive a restart as long as the key is
//! the same. Each change is made with the operator's own token, which the service checks and whose
//! name it records. For reading, the services are asked for the operator at least once a minute.

mod arguments;
mod confirmed;
mod cookie;
mod forgery;
mod hosts;
mod policy;
mod seal;
mod session;
mod sign_in;
mod tls;

pub(crate) use arguments::AccessArguments;
pub(super) use policy::INLINE_ICONS;
pub(crate) use policy::policy;
pub(crate) use session::Session;
pub(crate) use tls::TlsListener;

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use self::confirmed::Confirmed;
use self::cookie::Cookies;
use self::forgery::{Origin, origin_of};
use self::hosts::Hosts;
use self::seal::Seal;
use super::{Console, Notice, PageError};
use crate::client::Token;
use crate::error::Error;
use crate::services::Services;

pub(super) use sign_in::routes;

/// The rules of access.
pub(crate) struct Access {
    /// If `false`, everyone who reaches the port has the rights of `own`.
    needs_sign_in: bool,
    hosts: Hosts,
    cookies: Cookies,
    confirmed: Confirmed,
    /// The token of this server.
    own: Token,
}

impl Access {
    /// Reads the settings. Fails if clients on other machines could use the console without
    /// protection.
    pub(crate) fn new(
        arguments: &AccessArguments,
        address: SocketAddr,
        services: &Services,
    ) -> Result<Self, Error> {
        arguments.check(address)?;
        let own = services.token().clone();
        Ok(Self {
            needs_sign_in: arguments.is_open(address),
            hosts: Hosts::read(&arguments.hosts, address),
            cookies: Cookies::new(Seal::new(&arguments.secret, &own), arguments.secure()),
            confirmed: Confirmed::default(),
            own,
        })
    }

    /// Returns the session of a request. Returns `None` if there is none but one is required.
    fn session(&self, request: &Request) -> Option<Session> {
        let headers = request.headers();
        let bearer = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        if let Some(token) = bearer.and_then(session::bearer) {
            return Some(Session::of_bearer(token));
        }
        // A change by a program that is no browser needs its own token: the cookie and the server's
        // own token do not count.
        if !request.method().is_safe() && origin_of(headers) == Origin::Unknown {
            return None;
        }
        let signed_in = self.cookies.session(headers);
        signed_in.or_else(|| (!self.needs_sign_in).then(|| Session::of_server(self.own.clone())))
    }
}

/// Rejects requests for another host, and requests that another site made a browser send.
pub(super) async fn guard(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
    if let Err(host) = console.access.hosts.check(host) {
        let message = format!(
            "This server does not serve the host {host}. Add it to CONSOLE_HOSTS if it should.\n"
        );
        return (StatusCode::MISDIRECTED_REQUEST, crate::plain::plain(message.trim()) + "\n")
            .into_response();
    }
    if !request.method().is_safe() && origin_of(request.headers()) == Origin::Foreign {
        let advice = "Open the console itself and try again there.";
        return PageError::forbidden("Another site has sent this request.", advice).into_response();
    }
    next.run(request).await
}

/// Adds the session to a request, or redirects to the sign-in.
pub(super) async fn require_session(
    State(console): State<Console>,
    mut request: Request,
    next: Next,
) -> Response {
    let session = match console.access.session(&request) {
        Some(session) if console.access.needs_sign_in => sign_in::confirm(&console, session).await,
        session => session,
    };
    let Some(session) = session else { return to_sign_in(&request) };
    // The parts of a page are requested after it, and must not consume the result that the page
    // shows once.
    let is_part = is_part(&request);
    let cookies = &console.access.cookies;
    let headers = request.headers().clone();
    let shows = !is_part && request.method() == Method::GET;
    let notice = shows.then(|| cookies.notice(&headers)).flatten();
    let had_notice = notice.is_some();
    request.extensions_mut().insert(session.with_notice(notice));
    let mut response = next.run(request).await;
    let cookie = match response.extensions_mut().remove::<Notice>() {
        Some(notice) => cookies.notice_cookie(&headers, &notice),
        None => had_notice.then(|| cookies.forget(&headers)),
    };
    if let Some(cookie) = cookie.and_then(|it| HeaderValue::try_from(it).ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns `true` for a request for a part of a page that is already shown, or for its stream.
fn is_part(request: &Request) -> bool {
    request.headers().contains_key("hx-request")
}

fn to_sign_in(request: &Request) -> Response {
    // A part of a page must not be replaced by the sign-in, and a program needs a status.
    if is_part(request) || request.method() != Method::GET {
        let message = "Sign in, or send an operator's token as Authorization: Bearer <token>.\n";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], message)
            .into_response();
    }
    let here = request.uri().path_and_query().map_or("/", |it| it.as_str());
    Redirect::to(&sign_in::address(here)).into_response()
}
