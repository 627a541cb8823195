use std::path::PathBuf;

use chassis::Secret;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser};
use lettre::message::Mailbox;

use crate::webhook::Exceptions;

/// What the service is told at start, by flags or environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "notification", about = "Writes to the customers of completed orders")]
pub struct Config {
    /// What every service is told.
    #[command(flatten)]
    pub chassis: chassis::Config,
    /// Where e-mails go.
    #[command(flatten)]
    pub mail: Mail,
    /// Webhooks that may lead into a private network, `host:port,..`
    #[arg(long, env = "WEBHOOK_ALLOW", default_value = "")]
    pub webhook_allow: Exceptions,
}

/// Where e-mails go, and whom they come from. Exactly one of the server and the folder is given.
#[derive(Args, Clone, Debug)]
pub struct Mail {
    /// The mail server, `smtp://host:port` or `smtps://user:password@host`
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<Secret>,
    /// Instead of a server: a folder that gets each e-mail as a file
    // Not clap's own parser of paths, which refuses a variable that is set to nothing.
    #[arg(long, env = "MAIL_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub mail_dir: Option<PathBuf>,
    /// The sender
    #[arg(long, env = "MAIL_FROM", default_value = "Orderflow <no-reply@orderflow.example>")]
    pub mail_from: Mailbox,
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}
