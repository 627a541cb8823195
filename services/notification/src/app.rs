//! What notification is made of.

use chassis::Service;
use consumer::Subscription;

use crate::consumers::invoice_credited::WriteCreditNote;
use crate::consumers::invoice_issued::WriteReceipt;
use crate::consumers::order_cancelled::WriteCancellation;
use crate::consumers::order_completed::WriteConfirmation;
use crate::email::{Mailer, Sending};
use crate::webhook::{Delivering, Guard, Targets};
use crate::{Config, api};

/// The one list of notification's subscriptions, jobs and routes.
pub fn build(config: Config) -> Service {
    let Config { chassis, mail, webhook_allow } = config;
    let guard = Guard::new(webhook_allow);
    let api_guard = guard.clone();
    let targets = Targets::new(guard);
    Service::new("notification", chassis)
        .ports(8083, 9183)
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
            let delivering = Delivering { pool: pool.clone(), targets };
            Ok(worker.handle(sending).handle(delivering))
        })
        .routes(move |parts| api::routes(parts, api_guard))
}
