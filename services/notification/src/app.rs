//! What notification is made of.

use chassis::Service;
use consumer::Subscription;

use crate::consumers::invoice_issued::WriteReceipt;
use crate::consumers::order_completed::WriteConfirmation;
use crate::mailer::Mailer;
use crate::sender::Sender;
use crate::{Config, api};

/// The one list of notification's subscriptions, background work and routes.
pub fn build(config: Config) -> Service {
    let Config { chassis, mail } = config;
    Service::new("notification", chassis)
        .ports(8083, 9183)
        .migrations(sqlx::migrate!("./migrations"))
        .subscription(|_| {
            Subscription::new("notification").each_once(WriteConfirmation).each_once(WriteReceipt)
        })
        .background(move |parts, shutdown| {
            Ok(Sender::new(parts.pool.clone(), Mailer::new(mail)?).run(shutdown))
        })
        .routes(|parts| api::routes(parts.pool.clone()))
}
