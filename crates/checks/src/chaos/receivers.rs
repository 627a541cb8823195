//! The receivers of notification's e-mails and webhooks, in this process.

use std::collections::HashMap;

use playground::{Behaviour, ThirdParty};
use reqwest::StatusCode;
use serde_json::json;

use super::Error;
use super::instance::{CLIENT, Instance};
use super::mail::{self, MailServer};

/// Tenant whose orders arrive by HTTP and whose webhook is registered.
pub(crate) const TENANT: &str = "acme";
const API_KEY: &str = "demo-acme";
/// Maximum number of requests that are remembered: more than a trial makes.
const REMEMBERED: usize = 1_000_000;
/// Share of webhooks whose first attempt is answered with 500, so that every trial has retries.
const FAILED_FIRST_TRIES: f64 = 0.05;

/// Counts of requests with one `webhook-id`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AttemptCounts {
    /// Requests that were answered with 2xx.
    pub(crate) accepted: u32,
    /// Requests that were answered otherwise, or whose client disconnected before the answer.
    pub(crate) failed: u32,
}

/// The servers that notification sends to.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) mail: MailServer,
    target: ThirdParty,
}

impl Receivers {
    pub(crate) async fn start() -> Result<Self, Error> {
        let target = ThirdParty::start_remembering(REMEMBERED).await?;
        let receivers = Self { mail: MailServer::start().await?, target };
        receivers.heal();
        Ok(receivers)
    }

    /// Returns the settings by which notification sends to these receivers.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        // E-mails are sent either by SMTP or to a folder, which the environment may set.
        [
            ("MAIL_DIR", String::new()),
            ("SMTP_URL", self.mail.url()),
            ("WEBHOOK_ALLOW", self.target.address().to_string()),
        ]
    }

    /// Registers the target as the tenant's webhook for all events.
    pub(crate) async fn register(&self, notification: &Instance) -> Result<(), Error> {
        let url = format!("http://127.0.0.1:{}/webhooks", notification.http);
        let body = json!({ "url": format!("{}/webhooks/{TENANT}", self.target.url()) });
        let answer = CLIENT.post(url).bearer_auth(API_KEY).json(&body).send().await?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            status => Err(format!("the webhook was not registered: {status}").into()),
        }
    }

    /// Makes both refuse everything.
    pub(crate) fn refuse(&self) {
        self.mail.behave(mail::Behaviour::Refuse);
        self.target.behave(Behaviour { failure_rate: 1.0, ..Behaviour::default() });
    }

    /// Makes both hang: they neither answer, nor accept anything whose client has disconnected.
    pub(crate) fn hang(&self) {
        self.mail.behave(mail::Behaviour::Hang);
        self.target.behave(Behaviour { hang: true, ..Behaviour::default() });
    }

    /// Makes both accept, except for some first attempts of webhooks.
    pub(crate) fn heal(&self) {
        self.mail.behave(mail::Behaviour::Accept);
        self.heal_target();
    }

    /// Makes the webhook target accept, except for some first attempts.
    pub(crate) fn heal_target(&self) {
        let first_try_failure_rate = FAILED_FIRST_TRIES;
        self.target.behave(Behaviour { first_try_failure_rate, ..Behaviour::default() });
    }

    /// Returns the counts of each `webhook-id`.
    pub(crate) fn webhooks(&self) -> HashMap<String, AttemptCounts> {
        let mut by_id: HashMap<_, AttemptCounts> = HashMap::new();
        for request in self.target.received() {
            let tries = by_id.entry(request.header("webhook-id").to_owned()).or_default();
            match request.status {
                Some(200..=299) => tries.accepted += 1,
                _ => tries.failed += 1,
            }
        }
        by_id
    }

    /// Returns the number of requests for webhooks that have arrived.
    pub(crate) fn webhook_requests(&self) -> usize {
        self.target.received().len()
    }

    /// Returns the number of requests after the first `earlier` ones that were answered other than
    /// with 2xx.
    pub(crate) fn refused_webhooks(&self, earlier: usize) -> usize {
        let is_refusal = |status| !(200..=299).contains(&status);
        let received = self.target.received();
        received.iter().skip(earlier).filter(|it| it.status.is_some_and(is_refusal)).count()
    }

    /// Returns the number of webhooks that wait for an answer, or were never answered.
    pub(crate) fn unanswered_webhooks(&self) -> usize {
        self.target.received().iter().filter(|request| request.status.is_none()).count()
    }
}
