//! `/erasures` on the admin port: erases a customer's data from dead letters, acts, flow steps,
//! jobs, responses stored for `Idempotency-Key`, and the service's own tables.

use std::error::Error;

use axum::extract::State;
use axum::routing::post;
use axum::{Json as Body, Router};
use serde::Deserialize;

use super::Admin;
use super::acts::NewAct;
use super::letters::Changed;
use super::operator::Operator;
use super::request;
use crate::http::{Json, Problem, erase_idempotent_answers};

/// Maximum length of an address (RFC 5321, section 4.5.3.1: local part, `@` and domain).
const MAX_ADDRESS: usize = 320;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/erasures", post(erase))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erasure {
    customer_email: String,
}

impl Erasure {
    /// Returns the address. Fails with 422 if it is not an address, since a short text would match
    /// everywhere.
    fn checked(&self) -> Result<&str, Problem> {
        let address = self.customer_email.trim();
        let parts = address.rsplit_once('@');
        let is_address = parts.is_some_and(|(local, domain)| {
            // Only a quoted local part may have spaces, or further signs.
            let is_quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
            let is_further = |it: char| it.is_whitespace() || ['@', '"'].contains(&it);
            let is_plain = |text: &str| !text.is_empty() && !text.contains(is_further);
            (is_quoted || is_plain(local)) && is_plain(domain)
        });
        let is_text = !address.contains(char::is_control);
        if is_address && is_text && address.len() <= MAX_ADDRESS {
            return Ok(address);
        }
        Err(Problem::unprocessable(
            "customer_email must be an e-mail address, such as ada@example.com",
        ))
    }
}

/// The first problem of an erasure.
#[derive(Default)]
struct FirstProblem(Option<Problem>);

impl FirstProblem {
    /// Returns the result of erasing a part. Logs its error, and keeps the problem if it is the
    /// first.
    fn check<T, E>(&mut self, part: &'static str, erased: Result<T, E>) -> Option<T>
    where
        E: Error + Into<Problem> + 'static,
    {
        let error = match erased {
            Ok(erased) => return Some(erased),
            Err(error) => error,
        };
        tracing::error!(error = &error as &dyn Error, part, "customer not erased");
        let problem = error.into();
        self.0.get_or_insert(problem);
        None
    }
}

/// Erases a customer. The recorded act omits the address, which has to be erased, too.
///
/// A part that can't be erased must not keep the customer in the others, so the first problem is
/// returned at the end.
async fn erase(
    State(admin): State<Admin>,
    operator: Operator,
    Json(erasure): Json<Erasure>,
) -> Result<Body<Changed>, Problem> {
    let address = erasure.checked()?;
    let act = NewAct { act: "erasure", target: "a customer".to_owned(), why: None };
    let erasing = async {
        let mut first = FirstProblem::default();
        let letters = consumer::erase_letters(&admin.pool, address).await;
        let letters = first.check("dead letters", letters).unwrap_or_default();
        first.check("acts", admin.acts.erase(address).await);
        first.check("flow steps", admin.flows.erase(address).await);
        let answers = erase_idempotent_answers(&admin.pool, address).await;
        first.check("responses of idempotent requests", answers);
        for erase in admin.erases.iter() {
            let erased = erase(admin.pool.clone(), address.to_owned()).await;
            first.check("tables of the service", erased);
        }
        first.check("jobs", ::jobs::erase(&admin.pool, address).await);
        let done = || Ok((Body(Changed { letters }), request::letters(letters)));
        first.0.map_or_else(done, Err)
    };
    admin.acts.record(&operator, act, erasing).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_erased() {
        let long = format!("{}@example.com", "x".repeat(MAX_ADDRESS));
        for text in ["", "a", "@", "a@", "@b.c", "\"\"@c.d", "a@b@c.d", "a b@c.d", "a\0@c.d", &long]
        {
            let erasure = Erasure { customer_email: text.to_owned() };
            assert!(erasure.checked().is_err(), "{text}");
        }
        for text in ["ada@example.com", "a@localhost", r#""ada @ home"@example.com"#] {
            let erasure = Erasure { customer_email: format!(" {text} ") };
            assert_eq!(erasure.checked().ok(), Some(text));
        }
    }
}
