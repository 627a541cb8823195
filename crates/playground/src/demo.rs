//! Follows five orders to their invoices, one of which is cancelled, then sends a duplicate and
//! random bytes.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use kafka::{Coordinates, DeadLetter, Record, Settings};
use sandbox::{Console, step};
use tokio::time::sleep;

use crate::{
    Error,
    deployment::{ACME, Deployment, GLOBEX, Location, Tenant},
    failure::{Failure, StepContext},
    http::{self, CreditNote, Invoice, Item, Order},
    records::{Group, Reader, Sender},
    report::{OnlyIfSlow, fields, heading, line, milliseconds, money, place},
};

const COMPLETED: &str = "order.completed";
const BILLING: &str = "billing";
const DEAD_LETTERS: &str = "billing.dlq";
const WRITTEN_WHEN_COMPLETED: [&str; 2] = ["confirmation", "receipt"];
const WRITTEN_WHEN_CANCELLED: [&str; 2] = ["cancellation", "credit_note"];
/// Time limit for the effects of an order.
const LIMIT: Duration = Duration::from_secs(30);

struct Purchase {
    tenant: Tenant,
    currency: &'static str,
    items: &'static [Item],
}

const PURCHASES: [Purchase; 3] = [
    Purchase { tenant: ACME, currency: "EUR", items: &[("TEA-EARL-GREY", 2, 1_250)] },
    Purchase { tenant: GLOBEX, currency: "USD", items: &[("ANVIL-50KG", 1, 18_900)] },
    Purchase { tenant: ACME, currency: "EUR", items: &[("CUP", 4, 890), ("SAUCER", 4, 420)] },
];

/// The order that is cancelled.
const CANCELLED: Purchase =
    Purchase { tenant: GLOBEX, currency: "USD", items: &[("ROCKET-SKATES", 1, 8_950)] };
/// The order that is placed while notification is down.
const LAST: Purchase = Purchase { tenant: ACME, currency: "EUR", items: &[("TEAPOT", 1, 4_200)] };

/// Returns the exit status.
pub(crate) async fn run(console: &Console, stop: impl Future<Output = u8>) -> Result<u8, Failure> {
    let start = Instant::now();
    let mut stop = pin!(stop);
    heading("Orderflow: five orders become five invoices");
    let mut deployment = tokio::select! {
        started = Deployment::start(Location::Temporary, &[], console) => started.during("start the system")?,
        signal = &mut stop => return Ok(interrupted(signal)),
    };
    let ended = tokio::select! {
        shown = show(&mut deployment, console) => shown.map(|()| None),
        signal = &mut stop => Ok(Some(signal)),
    };
    let ended = ended.map_err(|failure| failure.with_logs(deployment.log_tails()));
    let stopped = async {
        deployment.stop().await;
        Ok::<_, Error>(())
    };
    let _ = step(&OnlyIfSlow::new(console), "stopping", stopped, |()| "stopped".into()).await;
    if let Some(signal) = ended? {
        return Ok(interrupted(signal));
    }
    line(&format!(
        "\nEach of the {} orders has exactly one invoice, and the cancelled one a credit note. Nothing is left\n\
         running, and no folder. It took {:.1} s.\n\n\
         Next:\n  \
           make local      starts the system and keeps it running: docs/tour.md has a tour of it\n  \
           make compare    the same orders by direct calls and by events, while a service is down\n  \
           make test       every test, against a real Kafka and Postgres\n\
         README.md says which crate is for what, docs/adding-a-consumer.md how to add a consumer.",
        PURCHASES.len() + 2,
        start.elapsed().as_secs_f64()
    ));
    Ok(0)
}

fn interrupted(signal: u8) -> u8 {
    line("\nStopped before the end. Nothing is left running, and all folders are removed.");
    128 + signal
}

/// An order, the record of its completion, and its invoice.
struct Flow {
    tenant: Tenant,
    order: Order,
    record: Record,
    event_id: String,
    invoice: Invoice,
}

async fn show(deployment: &mut Deployment, console: &Console) -> Result<(), Failure> {
    let show = Show {
        console,
        settings: deployment.kafka(),
        order_port: deployment.service("order").http,
        billing_port: deployment.service(BILLING).http,
        notification_port: deployment.service("notification").http,
        analytics_port: deployment.service("analytics").http,
        third_party_port: deployment.third_party.port,
    };
    show.registers().await.during("register a webhook")?;
    let group = Group::new(&show.settings, BILLING).during("watch billing's group")?;
    let mut completed =
        Reader::new(&show.settings, COMPLETED).during("read the topic of completed orders")?;

    heading("Each order is placed and completed over HTTP");
    let run = fastrand::u32(..);
    let mut flows = Vec::new();
    for (number, purchase) in (1..).zip(PURCHASES) {
        let tenant = purchase.tenant.name;
        let correlation_id = format!("demo-{run:08x}-{number}");
        let flow = show.flow(number, purchase, &correlation_id, &mut completed);
        flows
            .push(flow.await.during(format!("bring order {number}, of {tenant}, to its invoice"))?);
    }
    line(
        "  The time is from the response to `complete` to the first answer of GET /invoices that has\n  \
         the invoice. The demo asks again 1 ms after each answer, and the time includes that.",
    );
    if cfg!(debug_assertions) {
        line("  The programs are built without optimisation, which makes the build fast.");
    }

    heading("Notification and analytics consume the same events");
    show.others_consumed(&flows).await.during("see the e-mails and the numbers")?;

    heading("Acme's webhook, at a third party, receives both of its orders");
    show.webhook_received(&flows).await.during("see the webhook's requests")?;

    heading("An order is cancelled, and its invoice credited");
    let cancelled = show.cancellation(run, &flows, &mut completed).await;
    flows.push(cancelled.during("cancel an order and see its credit note")?);

    heading("Notification is killed, and the next order is invoiced all the same");
    let last = show.without_notification(deployment, run, &mut completed).await;
    flows.push(last.during("place an order while notification is down")?);

    heading("Then Kafka delivers one event twice, and a message of random bytes");
    show.duplicate_and_noise(&flows, &group).await.during("show that neither changes anything")
}

struct Show<'a> {
    console: &'a Console,
    settings: Settings,
    order_port: u16,
    billing_port: u16,
    notification_port: u16,
    analytics_port: u16,
    third_party_port: u16,
}

impl Show<'_> {
    async fn flow(
        &self,
        number: usize,
        purchase: Purchase,
        correlation_id: &str,
        completed: &mut Reader,
    ) -> Result<Flow, Error> {
        let Purchase { tenant, currency, items } = purchase;
        let order = http::place(self.order_port, &tenant, correlation_id, currency, items).await?;
        if !http::invoices(self.billing_port, &tenant, &order.id).await?.is_empty() {
            return Err(Error::Untrue("the order has an invoice before it is completed".into()));
        }
        http::complete(self.order_port, &tenant, correlation_id, &order.id).await?;
        let responded = Instant::now();
        let slow = OnlyIfSlow::new(self.console);
        let invoice = self.invoice(&tenant, &order);
        let waited =
            step(&slow, "waiting for the invoice", invoice, |_| "the invoice is there".into());
        let invoice = waited.await?;
        let took = responded.elapsed();

        let is_its = |record: &Record| record.key.as_deref() == Some(order.id.as_bytes());
        let record = completed.find("the order's event", is_its).await?;
        let envelope = kafka::decode(&record)
            .map(|event| event.envelope)
            .map_err(|error| Error::Untrue(format!("its event can't be read: {error}")))?;
        if envelope.correlation_id.as_str() != correlation_id {
            let other = &envelope.correlation_id;
            return Err(Error::Untrue(format!("its event has the correlation id {other}")));
        }
        line(&format!(
            "  {number}  {:8} {:>12}   invoice {} after {}",
            tenant.name,
            money(order.total, &order.currency),
            invoice.number,
            milliseconds(took)
        ));
        fields(&[
            ("order id", order.id.clone()),
            ("correlation id", correlation_id.into()),
            ("event id", envelope.id.to_string()),
            ("record", place(&record.topic, record.partition, record.offset)),
        ]);
        line("");
        Ok(Flow { tenant, order, event_id: envelope.id.to_string(), record, invoice })
    }

    /// Waits for the one invoice of an order.
    async fn invoice(&self, tenant: &Tenant, order: &Order) -> Result<Invoice, Error> {
        let until = format!("billing has an invoice of the order {}", order.id);
        until_some(until, || self.only_invoice(tenant, order)).await
    }

    async fn only_invoice(&self, tenant: &Tenant, order: &Order) -> Result<Option<Invoice>, Error> {
        let mut invoices = http::invoices(self.billing_port, tenant, &order.id).await?;
        if invoices.len() > 1 {
            let (count, id) = (invoices.len(), &order.id);
            return Err(Error::Untrue(format!("the order {id} has {count} invoices")));
        }
        let invoice = invoices.pop();
        match &invoice {
            Some(invoice)
                if (invoice.total, &invoice.currency) != (order.total, &order.currency) =>
            {
                Err(Error::Untrue(format!("the invoice {} has another total", invoice.id)))
            }
            _ => Ok(invoice),
        }
    }

    /// Waits until notification has sent two e-mails for each order, and analytics has counted all
    /// orders.
    async fn others_consumed(&self, flows: &[Flow]) -> Result<(), Error> {
        let slow = OnlyIfSlow::new(self.console);
        let mut effects = Vec::new();
        for flow in flows {
            let sent = self.sent(flow, &WRITTEN_WHEN_COMPLETED);
            let sent = step(&slow, "waiting for e-mails", sent, |_| "sent".into());
            effects.push(("e-mails", sent.await?));
        }
        for tenant in [ACME, GLOBEX] {
            let of_tenant = flows.iter().filter(|flow| flow.tenant.name == tenant.name);
            let orders: Vec<_> = of_tenant.map(|flow| &flow.order).collect();
            let counted = self.counted(&tenant, &orders);
            let counted = step(&slow, "waiting for numbers", counted, |_| "counted".into());
            effects.push(("revenue", counted.await?));
        }
        fields(&effects);
        Ok(())
    }

    /// Waits until these e-mails of an order are sent.
    async fn sent(&self, flow: &Flow, wanted: &[&str]) -> Result<String, Error> {
        let id = &flow.order.id;
        let ask = async || {
            let mut emails = http::emails(self.notification_port, &flow.tenant, id).await?;
            emails.retain(|email| wanted.contains(&&*email.kind) && email.sent_at.is_some());
            Ok((emails.len() == wanted.len()).then_some(emails))
        };
        let until = format!("{} of the order {id} are sent", wanted.join(" and "));
        let emails = until_some(until, ask).await?;
        let summaries =
            emails.iter().map(|email| format!("{} to {}", email.kind.replace('_', " "), email.to));
        Ok(summaries.collect::<Vec<_>>().join(", "))
    }

    async fn counted(&self, tenant: &Tenant, orders: &[&Order]) -> Result<String, Error> {
        let total = orders.iter().map(|order| order.total).sum::<i64>();
        let currency = orders.first().map_or("", |order| &order.currency);
        let ask = async || {
            let days = http::revenue(self.analytics_port, tenant).await?;
            let of_currency = || days.iter().filter(|day| day.currency == currency);
            let sums =
                of_currency().fold((0, 0), |sum, day| (sum.0 + day.orders, sum.1 + day.total));
            Ok((sums == (orders.len(), total)).then_some(()))
        };
        let revenue = money(total, currency);
        until_some(format!("the revenue of {} is {revenue}", tenant.name), ask).await?;
        Ok(format!("{:8} {revenue:>12}   orders: {}", tenant.name, orders.len()))
    }

    /// Completes an order, cancels it, and waits for its credit note. `flows` are the orders that
    /// stay.
    async fn cancellation(
        &self,
        run: u32,
        flows: &[Flow],
        completed: &mut Reader,
    ) -> Result<Flow, Error> {
        let tenant = CANCELLED.tenant;
        let number = PURCHASES.len() + 1;
        let correlation_id = format!("demo-{run:08x}-{number}");
        let flow = self.flow(number, CANCELLED, &correlation_id, completed).await?;
        http::cancel(self.order_port, &tenant, &correlation_id, &flow.order.id).await?;
        let responded = Instant::now();
        let slow = OnlyIfSlow::new(self.console);
        let note = self.credit_note(&flow);
        let note = step(&slow, "waiting for the credit note", note, |_| "it is there".into());
        let note = note.await?;
        let took = milliseconds(responded.elapsed());
        let sent = self.sent(&flow, &WRITTEN_WHEN_CANCELLED);
        let sent = step(&slow, "waiting for its e-mails", sent, |_| "sent".into()).await?;
        let revenue = self.counted_without(&flow, flows);
        let revenue = step(&slow, "waiting for numbers", revenue, |_| "counted".into());
        let CreditNote { number, invoice_number, .. } = note;
        fields(&[
            (
                "cancelled",
                format!("credit note {number} for invoice {invoice_number} after {took}"),
            ),
            ("e-mails", sent),
            ("revenue", format!("{}, as before", revenue.await?)),
        ]);
        Ok(flow)
    }

    /// Waits until analytics has counted the cancellation, and the other orders as before.
    async fn counted_without(&self, cancelled: &Flow, flows: &[Flow]) -> Result<String, Error> {
        let tenant = &cancelled.tenant;
        let ask = async || {
            let cancelled = http::cancelled(self.analytics_port, tenant).await?;
            Ok((cancelled == 1).then_some(()))
        };
        until_some(format!("one order of {} is counted as cancelled", tenant.name), ask).await?;
        let kept = flows.iter().filter(|flow| flow.tenant.name == tenant.name);
        self.counted(tenant, &kept.map(|flow| &flow.order).collect::<Vec<_>>()).await
    }

    /// Waits for the one credit note of an order, which credits the whole invoice.
    async fn credit_note(&self, flow: &Flow) -> Result<CreditNote, Error> {
        let (tenant, id) = (&flow.tenant, &flow.order.id);
        let ask = async || {
            let mut notes = http::credit_notes(self.billing_port, tenant, id).await?;
            if notes.len() > 1 {
                let count = notes.len();
                return Err(Error::Untrue(format!("the order {id} has {count} credit notes")));
            }
            Ok(notes.pop())
        };
        let note = until_some(format!("billing has a credit note of the order {id}"), ask).await?;
        let credited = (note.invoice_number, note.total);
        if credited != (flow.invoice.number, flow.invoice.total) {
            return Err(Error::Untrue(format!("it credits another invoice than {id}'s")));
        }
        Ok(note)
    }

    async fn registers(&self) -> Result<(), Error> {
        let url = format!("http://127.0.0.1:{}/webhooks/acme", self.third_party_port);
        http::register(self.notification_port, &ACME, &url).await
    }

    /// Waits until the webhook has received each order of the tenant twice: completed, and
    /// invoiced.
    async fn webhook_received(&self, flows: &[Flow]) -> Result<(), Error> {
        let orders: Vec<_> = flows
            .iter()
            .filter(|flow| flow.tenant.name == ACME.name)
            .map(|it| &it.order.id)
            .collect();
        let ask = async || {
            let received = http::received(self.third_party_port, "/webhooks").await?;
            let all = orders.iter().all(|id| {
                received.iter().filter(|it| it.status == Some(204) && it.body.contains(*id)).count()
                    == 2
            });
            Ok(all.then_some(received))
        };
        let received = until_some("the webhook has received each order".into(), ask).await?;
        let Some(first) = received.first() else { return Ok(()) };
        fields(&[
            ("requests", format!("{}, for completions and invoices", received.len())),
            ("webhook-id", first.header("webhook-id").into()),
            ("webhook-signature", first.header("webhook-signature").into()),
        ]);
        Ok(())
    }

    async fn without_notification(
        &self,
        deployment: &mut Deployment,
        run: u32,
        completed: &mut Reader,
    ) -> Result<Flow, Error> {
        deployment.service_mut("notification").kill_9().await;
        let number = PURCHASES.len() + 2;
        let correlation_id = format!("demo-{run:08x}-{number}");
        let flow = self.flow(number, LAST, &correlation_id, completed).await?;
        let slow = OnlyIfSlow::new(self.console);
        let again = deployment.service_mut("notification").start_again();
        step(&slow, "starting notification again", again, |()| "notification again".into()).await?;
        let sent = self.sent(&flow, &WRITTEN_WHEN_COMPLETED);
        let sent = step(&slow, "waiting for its e-mails", sent, |_| "sent".into());
        fields(&[("started again", sent.await?)]);
        Ok(flow)
    }

    async fn duplicate_and_noise(&self, flows: &[Flow], group: &Group) -> Result<(), Error> {
        let Some(first) = flows.first() else { return Ok(()) };
        let sender = Sender::new(&self.settings)?;
        let again = sender.send(COMPLETED, &first.record).await?;
        let noise = Record {
            key: None,
            value: Some(std::iter::repeat_with(|| fastrand::u8(..)).take(64).collect()),
            headers: kafka::Headers::new(),
            ..first.record.clone()
        };
        let lost = sender.send(COMPLETED, &noise).await?;
        let past = async {
            group.is_past(COMPLETED, again.0, again.1).await?;
            group.is_past(COMPLETED, lost.0, lost.1).await
        };
        let slow = OnlyIfSlow::new(self.console);
        step(&slow, "billing reads past both", past, |()| "billing is past both".into()).await?;

        for flow in flows {
            if self.only_invoice(&flow.tenant, &flow.order).await?.as_ref() != Some(&flow.invoice) {
                let id = &flow.order.id;
                return Err(Error::Untrue(format!("the invoice of the order {id} has changed")));
            }
        }
        line("  duplicate");
        fields(&[
            ("event id", first.event_id.clone()),
            ("first", place(COMPLETED, first.record.partition, first.record.offset)),
            ("again", place(COMPLETED, again.0, again.1)),
            ("outcome", format!("still one invoice of the order, number {}", first.invoice.number)),
        ]);
        line("");

        let mut letters = Reader::new(&self.settings, DEAD_LETTERS)?;
        let origin = |record: &Record| Coordinates::carried_by(record);
        let is_it = |record: &Record| {
            origin(record)
                .is_some_and(|at| (at.partition, at.offset) == lost && at.topic == COMPLETED)
        };
        let letter = letters.find("a dead letter of the random bytes", is_it).await?;
        let Some(dead) = DeadLetter::read(&letter) else {
            return Err(Error::Untrue("the dead letter does not name its group".into()));
        };
        if (&letter.key, &letter.value) != (&noise.key, &noise.value) {
            return Err(Error::Untrue("the dead letter has other bytes than the message".into()));
        }
        line("  random bytes");
        fields(&[
            ("sent", place(COMPLETED, lost.0, lost.1)),
            ("dead letter", place(&letter.topic, letter.partition, letter.offset)),
            ("bytes", "64, unchanged".into()),
            ("reason", dead.reason.stacktrace.replace("\ncaused by: ", ": ")),
            ("outcome", "no invoice, and no other message was delayed".into()),
        ]);
        Ok(())
    }
}

/// Repeats a request until it returns something.
async fn until_some<T>(
    until: String,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        sleep(Duration::from_millis(1)).await;
    }
    Err(Error::TooLate { until, limit: LIMIT })
}
