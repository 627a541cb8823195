//! Assembles the service.

use std::time::Duration;

use chassis::Service;
use consumer::Subscription;
use jobs::Options;

use crate::consumers::invoice_credited::WriteCreditNote;
use crate::consumers::invoice_issued::WriteReceipt;
use crate::consumers::order_cancelled::WriteCancellation;
use crate::consumers::order_completed::WriteConfirmation;
use crate::email::{Mailer, Sending};
use crate::webhook::{Delivering, Guard, Targets, WebhookApi};
use crate::{Config, api, discarded, erasure, retention};

/// Number of concurrent jobs: the sum of the limits of both kinds, because a job spends nearly all
/// of its time waiting for another server.
const CONCURRENCY: usize = Sending::PLACES + Delivering::PLACES;

/// Interval of the search for rows whose job was discarded.
const DISCARDED: Duration = Duration::from_mins(1);

/// Builds the service: its subscriptions, jobs and routes.
pub fn build(config: Config) -> Service {
    let checked = config.check();
    let Config { chassis, mail, webhooks, retention: kept } = config;
    let guard = Guard::new(webhooks.allow.clone());
    let (api_guard, rotation) = (guard.clone(), webhooks.rotation);
    let targets = Targets::new(guard);
    Service::new("notification", chassis)
        .ports(8083, 9183)
        .requires(checked)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription(|_| {
            Subscription::new("notification")
                .each_once(WriteConfirmation)
                .each_once(WriteCancellation)
                .each_once(WriteReceipt)
                .each_once(WriteCreditNote)
        })
        .jobs(move |parts, worker| {
            let pool = &parts.pool;
            let sending = Sending { pool: pool.clone(), mailer: Mailer::new(mail)? };
            let delivering = Delivering { pool: pool.clone(), targets, settings: webhooks };
            let options = Options { concurrency: CONCURRENCY, ..Options::default() };
            Ok(worker.options(options).handle(sending).handle(delivering))
        })
        .task(
            "fail e-mails and deliveries without a job",
            kept.every.min(DISCARDED),
            discarded::settle,
        )
        .task("prune e-mails and deliveries", kept.every, move |pool| {
            retention::prune(pool, kept.clone())
        })
        .erases(erasure::erase)
        .routes(move |parts| {
            let webhooks = WebhookApi { parts: parts.clone(), guard: api_guard, rotation };
            api::routes(parts, webhooks)
        })
}
