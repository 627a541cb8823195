use std::path::PathBuf;
use std::time::Duration;

use chassis::{ConfigError, Secret};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser};
use lettre::message::Mailbox;

use crate::webhook::Exceptions;

/// Maximum number of waits in `WEBHOOK_RETRIES`. A longer list is taken for a mistake, since a
/// delivery keeps only its last twenty attempts.
const MAX_RETRIES: usize = 30;
/// Interval at which expired data is deleted.
const EVERY: Duration = Duration::from_mins(10);
const DAY: Duration = Duration::from_hours(24);

/// Configuration, read at start from flags or the environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "notification", about = "Sends e-mails to customers and delivers webhooks")]
pub struct Config {
    /// Configuration that every service has.
    #[command(flatten)]
    pub chassis: chassis::Config,
    /// How e-mails are sent.
    #[command(flatten)]
    pub mail: Mail,
    /// How webhooks are delivered.
    #[command(flatten)]
    pub webhooks: Webhooks,
    /// How long customers' data is kept.
    #[command(flatten)]
    pub retention: Retention,
}

/// How webhooks are delivered.
#[derive(Args, Clone, Debug)]
pub struct Webhooks {
    /// Webhook hosts that may be in a private network and need no TLS, `host:port,..`
    #[arg(id = "webhook-allow", long = "webhook-allow", env = "WEBHOOK_ALLOW", default_value = "")]
    pub allow: Exceptions,
    /// The wait before each retry of a delivery, with a jitter of a fifth, `5s,30s,..`; as many
    /// retries as waits
    #[arg(
        id = "webhook-retries", long = "webhook-retries", env = "WEBHOOK_RETRIES", value_delimiter = ',',
        default_value = "5s,30s,2m,10m,30m,1h,2h,4h,8h,12h,1d", value_parser = humantime::parse_duration
    )]
    pub retries: Vec<Duration>,
    /// A webhook whose attempts have all failed for this long is disabled, as in `5d`
    #[arg(
        id = "webhook-disable-after", long = "webhook-disable-after", env = "WEBHOOK_DISABLE_AFTER", default_value = "5d",
        value_parser = humantime::parse_duration
    )]
    pub disable_after: Duration,
    /// How long deliveries are also signed with a replaced secret, as in `1d`
    #[arg(
        id = "webhook-rotation", long = "webhook-rotation", env = "WEBHOOK_ROTATION", default_value = "1d",
        value_parser = humantime::parse_duration
    )]
    pub rotation: Duration,
}

/// How long customers' data is kept.
#[derive(Args, Clone, Debug)]
pub struct Retention {
    /// How long e-mails are kept, as in `90d`
    #[arg(
        id = "email-retention", long = "email-retention", env = "EMAIL_RETENTION", default_value = "90d",
        value_parser = humantime::parse_duration
    )]
    pub emails: Duration,
    /// How long deliveries to webhooks are kept, as in `30d`
    #[arg(
        id = "delivery-retention", long = "delivery-retention", env = "DELIVERY_RETENTION", default_value = "30d",
        value_parser = humantime::parse_duration
    )]
    pub deliveries: Duration,
    /// Interval at which older data is deleted.
    #[arg(skip = EVERY)]
    pub every: Duration,
}

impl Config {
    /// Checks rules that concern several values.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |name, why: &str| Err(ConfigError::Invalid(name, why.to_owned()));
        let Webhooks { retries, .. } = &self.webhooks;
        if retries.len() > MAX_RETRIES || retries.iter().any(|wait| *wait > 30 * DAY) {
            return invalid("WEBHOOK_RETRIES", "at most 30 waits of at most 30 days each");
        }
        if self.retention.deliveries < retries.iter().sum::<Duration>().mul_f64(1.2) {
            let why = "deliveries would be forgotten before their last retry of WEBHOOK_RETRIES";
            return invalid("DELIVERY_RETENTION", why);
        }
        if self.retention.emails < DAY {
            return invalid("EMAIL_RETENTION", "at least 1d: an e-mail has retries too");
        }
        Ok(())
    }
}

/// How e-mails are sent, and their sender. Exactly one of the server and the folder is set.
#[derive(Args, Clone, Debug)]
pub struct Mail {
    /// The mail server, `smtp://host:port` or `smtps://user:password@host`
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<Secret>,
    /// A folder that receives each e-mail as a file, instead of a server
    // clap's own path parser rejects an empty variable, which counts as unset here.
    #[arg(long, env = "MAIL_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub mail_dir: Option<PathBuf>,
    /// The sender of e-mails
    #[arg(long, env = "MAIL_FROM", default_value = "Orderflow <no-reply@orderflow.example>")]
    pub mail_from: Mailbox,
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}
