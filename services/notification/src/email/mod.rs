//! E-mails to customers: what they say, the rows that record them, the job that sends them.

mod api;
mod letter;
mod mailer;
mod send_email;
mod store;

pub(crate) use api::routes;
pub(crate) use letter::Letter;
pub(crate) use mailer::Mailer;
pub(crate) use send_email::Sending;
pub(crate) use store::{Wanted, write};
