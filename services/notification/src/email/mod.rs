//! E-mails to customers: their texts, the rows that record them, the job that sends them.

mod api;
mod mail_server;
mod mailer;
mod send_email;
mod store;
mod text;

pub(crate) use api::routes;
pub(crate) use mailer::Mailer;
pub(crate) use send_email::Sending;
pub(crate) use store::{Wanted, write};
pub(crate) use text::EmailText;
