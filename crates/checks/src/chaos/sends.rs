//! Invariants of sent e-mails and webhooks: none is missing, and none arrived twice without a
//! reason.

use std::collections::{HashMap, HashSet};

use super::books::{Books, Delivery};
use super::invariants::{Name, Objections};
use super::receivers::TENANT;

/// Events that a webhook receives for each completed order, and for each that was cancelled after
/// that.
const COMPLETED_EVENTS: [&str; 2] = ["order.completed", "invoice.issued"];
const CANCELLED_EVENTS: [&str; 2] = ["order.cancelled", "invoice.credited"];

/// Checks the invariants of sends. `resends` is how often the fault may have interrupted
/// notification between a send and its record.
pub(crate) fn check(books: &Books, resends: u32) -> Vec<(Name, Objections)> {
    vec![
        ("every_email_sent", every_email_sent(books)),
        ("one_send_per_message_id", one_send_per_message_id(books, resends)),
        ("every_webhook_delivered", every_webhook_delivered(books)),
        ("one_delivery_per_webhook_id", one_delivery_per_webhook_id(books, resends)),
    ]
}

/// Returns the number of e-mails and webhooks that arrived again under the same id.
pub(crate) fn resent(books: &Books) -> usize {
    let mails = books.mails.values().map(|tally| tally.accepted);
    let webhooks = books.webhooks.values().map(|tries| tries.accepted);
    let again = mails.chain(webhooks).map(|accepted| accepted.saturating_sub(1));
    usize::try_from(again.sum::<u32>()).unwrap_or(usize::MAX)
}

/// Checks that the mail server accepted every e-mail of notification that has no unfinished job,
/// and no other one. (`one_confirmation_one_receipt` checks that notification wrote the e-mails of
/// each order.)
fn every_email_sent(books: &Books) -> Objections {
    let mut objections = Objections::new();
    let mut written = HashSet::new();
    for (order, emails) in &books.emails {
        for email in emails {
            written.insert(email.message_id.as_str());
            let waits = books.jobs.emails.contains(&(*order, email.kind.clone()));
            if !waits && !books.mails.contains_key(&email.message_id) {
                objections.push(format!("the {} of the order {order} never arrived", email.kind));
            }
        }
    }
    let strange = books.mails.keys().filter(|id| !written.contains(id.as_str()));
    objections.extend(strange.map(|id| format!("the e-mail {id} arrived and was never written")));
    objections
}

/// Checks that an e-mail is sent again only if its client could not know that it was accepted, or
/// if notification was interrupted before it recorded that.
fn one_send_per_message_id(books: &Books, resends: u32) -> Objections {
    let times = books.mails.iter().map(|(id, tally)| (id, tally.confirmed));
    sent_again("e-mail", times, resends, books.unclear.emails)
}

/// Returns the items that were accepted more than `1 + resends` times, unless unclear attempts
/// explain all of it.
fn sent_again<'a>(
    what: &str,
    times: impl Iterator<Item = (&'a String, u32)>,
    resends: u32,
    unclear: u32,
) -> Objections {
    let again: Vec<_> = times.filter(|(_, times)| *times > 1 + resends).collect();
    let unexplained: u32 = again.iter().map(|(_, times)| times - 1 - resends).sum();
    if unexplained <= unclear {
        return Objections::new();
    }
    let objection = |(id, times): &(_, u32)| {
        format!("the {what} {id} was accepted {times} times, and {unclear} attempts were unclear")
    };
    again.iter().map(objection).collect()
}

/// Checks that the target answered every delivery without an unfinished job with 2xx, and each
/// completed order of the tenant has a delivery of both events, or of all four if it was cancelled.
fn every_webhook_delivered(books: &Books) -> Objections {
    let accepted = |id: &str| books.webhooks.get(id).map_or(0, |tries| tries.accepted);
    let mut objections = Objections::new();
    for (id, delivery) in &books.deliveries {
        if accepted(id) == 0 && !books.jobs.deliveries.contains(id) {
            let Delivery { order, event_type, status } = delivery;
            let failed = books.webhooks.get(id).map_or(0, |tries| tries.failed);
            objections.push(format!(
                "{event_type} of the order {order} was never accepted, failed {failed} times and is {status}"
            ));
        }
    }
    let mut event_types: HashMap<_, HashSet<&str>> = HashMap::new();
    for delivery in books.deliveries.values() {
        event_types.entry(delivery.order).or_default().insert(&delivery.event_type);
    }
    let completed = books.orders.iter().filter(|(_, row)| row.completed && row.tenant == TENANT);
    for (order, row) in completed {
        let of_order = event_types.get(order);
        let wanted =
            COMPLETED_EVENTS.iter().chain(CANCELLED_EVENTS.iter().filter(|_| row.cancelled));
        let missing = wanted.filter(|event| !of_order.is_some_and(|it| it.contains(*event)));
        objections.extend(missing.map(|it| format!("the order {order} has no delivery of {it}")));
    }
    let strange = books.webhooks.keys().filter(|id| !books.deliveries.contains_key(*id));
    objections
        .extend(strange.map(|id| format!("the webhook {id:?} arrived and was never written")));
    objections
}

/// Checks that a delivery that was answered with 2xx is repeated only if its client did not wait
/// for the answer, or if notification was interrupted before it recorded that.
fn one_delivery_per_webhook_id(books: &Books, resends: u32) -> Objections {
    let times = books.webhooks.iter().map(|(id, tries)| (id, tries.accepted));
    sent_again("webhook", times, resends, books.unclear.webhooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_send_needs_an_interruption_or_an_unclear_attempt() {
        let objections = |times: u32, resends, unclear| {
            let ids = ["a".to_owned(), "b".to_owned()];
            sent_again("e-mail", [(&ids[0], 1), (&ids[1], times)].into_iter(), resends, unclear)
                .len()
        };
        assert_eq!(objections(1, 0, 0), 0);
        assert_eq!(objections(2, 0, 0), 1);
        assert_eq!(objections(2, 1, 0), 0);
        assert_eq!(objections(2, 0, 1), 0);
        assert_eq!(objections(4, 1, 1), 1);
    }
}
