//! `/erasures` on the admin port: erases a customer's data from dead letters, acts, flow steps,
//! jobs, responses stored for `Idempotency-Key`, and the service's own tables.

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

/// Erases a customer. The recorded act omits the address, which has to be erased, too.
async fn erase(
    State(admin): State<Admin>,
    operator: Operator,
    Json(erasure): Json<Erasure>,
) -> Result<Body<Changed>, Problem> {
    let address = erasure.checked()?;
    let act = NewAct { act: "erasure", target: "a customer".to_owned(), why: None };
    let erasing = async {
        let letters = consumer::erase_letters(&admin.pool, address).await?;
        admin.acts.erase(address).await?;
        admin.flows.erase(address).await?;
        erase_idempotent_answers(&admin.pool, address).await?;
        for erase in admin.erases.iter() {
            erase(admin.pool.clone(), address.to_owned()).await?;
        }
        ::jobs::erase(&admin.pool, address).await?;
        Ok((Body(Changed { letters }), request::letters(letters)))
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
