//! Invariants of the books, which hold after every fault. Each check returns its violations.

use std::collections::{BTreeSet, HashMap, HashSet};

use kafka::{Headers, Record};
use uuid::Uuid;

use super::books::{
    Books, CREDIT_NOTE_TOPIC, Counted, Document, EventKey, INVOICE_TOPIC, Letter, ORDER_TOPICS,
    OrderRow, event_key,
};
use super::load::Placed;
use super::scene::Scene;
use super::topics::position_of;

/// Name of an invariant in the report.
pub(crate) type Name = &'static str;

/// Violations of an invariant.
pub(crate) type Objections = Vec<String>;

/// Checks all invariants of the books.
pub(crate) fn check(books: &Books, placed: &[Placed], scene: &Scene) -> Vec<(Name, Objections)> {
    vec![
        ("one_order_row", one_order_row(books, placed)),
        ("one_event_id", one_event_id(books)),
        ("one_invoice", one_invoice(books)),
        ("one_credit_note", one_credit_note(books)),
        ("numbers_without_gaps", numbers_without_gaps(books)),
        ("one_confirmation_one_receipt", one_of_each_email(books)),
        ("one_metric", one_metric(books)),
        ("one_basket", one_basket(books)),
        ("one_history", one_history(books)),
        ("nothing_uncommitted", nothing_uncommitted(books, scene)),
        ("every_record_accounted", every_record_accounted(books)),
        ("dead_letters_as_they_were", dead_letters_as_they_were(books)),
        ("dead_letters_copied", dead_letters_copied(books)),
        ("only_poison_is_dead", only_poison_is_dead(books, scene)),
        ("replays_resolved", replays_resolved(books, scene)),
        ("order_per_key", order_per_key(books)),
    ]
}

/// Checks that every order that was answered with 2xx exists once, with the answered status.
fn one_order_row(books: &Books, placed: &[Placed]) -> Objections {
    let objections = placed.iter().filter_map(|order| match books.orders.get(&order.id) {
        None => Some(format!("the order {} was accepted and does not exist", order.id)),
        Some(row) if order.completed && !row.completed => {
            Some(format!("the order {} was completed and is open", order.id))
        }
        Some(row) if order.cancelled && !row.cancelled => {
            Some(format!("the order {} was cancelled and is not", order.id))
        }
        Some(_) => None,
    });
    let twice = books.placed_twice.iter().map(|sku| format!("the order of {sku} exists twice"));
    objections.chain(twice).collect()
}

/// Returns the ids of the events that our own services published, by key.
fn ids_by_key<'a>(books: &'a Books, topic: &str) -> HashMap<Uuid, BTreeSet<&'a str>> {
    let mut ids: HashMap<_, BTreeSet<_>> = HashMap::new();
    for record in books.of(topic).iter().filter(|record| is_ours(record)) {
        if let (Some(key), Some(id)) = (key_of(record), record.text_header("ce_id")) {
            ids.entry(key).or_default().insert(id);
        }
    }
    ids
}

/// Returns the key of a record, if it is an id.
fn key_of(record: &Record) -> Option<Uuid> {
    std::str::from_utf8(record.key.as_deref()?).ok()?.parse().ok()
}

fn is_ours(record: &Record) -> bool {
    record.text_header("ce_source").is_some_and(is_own_source)
}

fn is_own_source(source: &str) -> bool {
    matches!(source, "/order" | "/billing")
}

/// Checks that every order has exactly one event of its creation and, if they apply, one each of
/// its completion, cancellation, invoice and credit note, and an event of each of its versions.
/// Copies with the same id count once.
fn one_event_id(books: &Books) -> Objections {
    let those = |wanted: fn(&OrderRow) -> bool| {
        books.orders.iter().filter(|(_, row)| wanted(row)).map(|(id, _)| id).collect::<Vec<_>>()
    };
    let each = [
        ("order.created", those(|_| true)),
        ("order.completed", those(|row| row.completed)),
        ("order.cancelled", those(|row| row.cancelled)),
        (INVOICE_TOPIC, books.invoices.keys().collect()),
        (CREDIT_NOTE_TOPIC, books.credit_notes.keys().collect()),
    ];
    let objections = |(topic, orders): (&'static str, Vec<&Uuid>)| {
        let ids = ids_by_key(books, topic);
        let count = |order: &Uuid| ids.get(order).map_or(0, BTreeSet::len);
        let wrong = orders.into_iter().filter(|order| count(order) != 1);
        let objection = |order: &Uuid| {
            format!("{order} ({}) has {} events {topic}", age_rank(books, order), count(order))
        };
        wrong.map(objection).collect::<Vec<_>>()
    };
    each.into_iter().flat_map(objections).chain(versions_without_event(books)).collect()
}

/// Each change of an order takes the next version and has an event.
fn versions_without_event(books: &Books) -> Objections {
    let mut told: HashMap<Uuid, BTreeSet<i64>> = HashMap::new();
    for record in ORDER_TOPICS.iter().flat_map(|topic| books.of(topic)).filter(|it| is_ours(it)) {
        let version = record.text_header("ce_sequence").and_then(|text| text.parse().ok());
        if let (Some(key), Some(version)) = (key_of(record), version) {
            told.entry(key).or_default().insert(version);
        }
    }
    let none = BTreeSet::new();
    let objections = books.orders.iter().filter_map(|(order, row)| {
        let told = told.get(order).unwrap_or(&none);
        let missing: Vec<_> = (1..=row.version).filter(|version| !told.contains(version)).collect();
        (!missing.is_empty()).then(|| {
            format!("{order} ({}) has no event of its versions {missing:?}", age_rank(books, order))
        })
    });
    objections.collect()
}

/// Describes the age of an order among all orders. Ids are UUIDv7, so they sort by time; lost
/// orders are often neighbours.
fn age_rank(books: &Books, order: &Uuid) -> String {
    let earlier = books.orders.keys().filter(|other| *other < order).count();
    format!("order {} of {}", earlier + 1, books.orders.len())
}

/// Checks that every completed order has exactly one invoice.
fn one_invoice(books: &Books) -> Objections {
    let completed = books.orders.iter().filter(|(_, row)| row.completed);
    let invoices = |order| books.invoices.get(order).map_or(0, Vec::len);
    let wrong = completed.filter(|(order, _)| invoices(order) != 1);
    wrong.map(|(order, _)| format!("the order {order} has {} invoices", invoices(order))).collect()
}

/// Checks that every order that was completed and cancelled has exactly one credit note, which
/// credits its invoice. No other order has one.
fn one_credit_note(books: &Books) -> Objections {
    let mut objections = Objections::new();
    for (order, row) in &books.orders {
        let of_order = |documents: &HashMap<Uuid, Vec<Document>>| {
            let documents = documents.get(order).map_or(&[][..], Vec::as_slice);
            documents.iter().map(|document| document.invoice_id).collect::<Vec<_>>()
        };
        let (invoices, credited) = (of_order(&books.invoices), of_order(&books.credit_notes));
        let wanted = if row.completed && row.cancelled { invoices } else { Vec::new() };
        if credited != wanted {
            objections
                .push(format!("of the order {order} {credited:?} are credited, not {wanted:?}"));
        }
    }
    let strange = books.credit_notes.keys().filter(|order| !books.orders.contains_key(order));
    objections.extend(strange.map(|order| format!("{order} is credited and is not an order")));
    objections
}

/// Invoices and credit notes are numbered separately for each tenant, from 1 without gaps.
fn numbers_without_gaps(books: &Books) -> Objections {
    let mut objections = Objections::new();
    for (what, documents) in [("invoices", &books.invoices), ("credit notes", &books.credit_notes)]
    {
        let mut numbers: HashMap<&str, Vec<i64>> = HashMap::new();
        for document in documents.values().flatten() {
            numbers.entry(&document.tenant_id).or_default().push(document.number);
        }
        for (tenant, mut numbers) in numbers {
            numbers.sort_unstable();
            let gap = (1..).zip(&numbers).find(|(expected, number)| expected != *number);
            objections.extend(gap.map(|(expected, number)| {
                format!("the {what} of {tenant} have the number {number} instead of {expected}")
            }));
        }
    }
    objections
}

/// Checks that every completed order has exactly one confirmation and one receipt, every cancelled
/// one a cancellation and, if it was completed, a credit note. No order has more than one
/// acknowledgement, which is requested once and not retried.
fn one_of_each_email(books: &Books) -> Objections {
    let mut objections = Objections::new();
    for (order, row) in &books.orders {
        let emails = books.emails.get(order).map_or(&[][..], Vec::as_slice);
        let count = |kind: &str| emails.iter().filter(|it| it.kind == kind).count();
        for (kind, wanted) in [
            ("confirmation", row.completed),
            ("receipt", row.completed),
            ("cancellation", row.cancelled),
            ("credit_note", row.completed && row.cancelled),
        ] {
            if count(kind) != usize::from(wanted) {
                let count = count(kind);
                objections.push(format!("the order {order} has {count} e-mails {kind}"));
            }
        }
        if count("acknowledgement") > 1 {
            objections.push(format!("the order {order} was acknowledged more than once"));
        }
    }
    objections
}

/// Analytics has every order with its final state.
fn one_metric(books: &Books) -> Objections {
    let wrong = books.orders.iter().filter_map(|(order, row)| match books.counted.get(order) {
        None => Some(format!("the order {order} is not counted")),
        Some(Counted { completed, cancelled })
            if (*completed, *cancelled) != (row.completed, row.cancelled) =>
        {
            Some(format!(
                "the order {order} is counted: completed {completed}, cancelled {cancelled}"
            ))
        }
        Some(_) => None,
    });
    wrong.collect()
}

/// Checks that the completed orders are the ones with a basket, and those of them that were
/// cancelled the ones whose basket is not counted.
fn one_basket(books: &Books) -> Objections {
    let orders = |wanted: fn(&OrderRow) -> bool| {
        let orders = books.orders.iter().filter(move |(_, row)| wanted(row));
        orders.map(|(order, _)| *order).collect::<HashSet<_>>()
    };
    let completed = orders(|row| row.completed);
    let cancelled = orders(|row| row.completed && row.cancelled);
    let mut objections = Objections::new();
    for (what, wanted, found) in [
        ("basket", &completed, &books.baskets),
        ("cancelled basket", &cancelled, &books.baskets_cancelled),
    ] {
        let missing = wanted.difference(found);
        objections.extend(missing.map(|order| format!("the order {order} has no {what}")));
        let strange = found.difference(wanted);
        objections.extend(strange.map(|order| format!("{order} has a {what} and must not")));
    }
    objections
}

/// Checks that analytics' histories have all events of our own services, and no others of them.
fn one_history(books: &Books) -> Objections {
    let topics = ORDER_TOPICS.into_iter().chain([INVOICE_TOPIC, CREDIT_NOTE_TOPIC]);
    let records = topics.flat_map(|topic| books.of(topic)).filter(|record| is_ours(record));
    let published: HashSet<_> = records.filter_map(event_key).collect();
    let told: HashSet<_> =
        books.history.iter().filter(|(source, _)| is_own_source(source)).cloned().collect();
    let missing = published.difference(&told);
    let mut objections: Objections =
        missing.map(|event| format!("{event:?} is in no history")).collect();
    let strange = told.difference(&published);
    objections.extend(strange.map(|event| format!("{event:?} is history and was never published")));
    objections
}

/// Checks that no invoice exists without a completed order, and no event of an uncommitted version,
/// invoice or credit note was published.
fn nothing_uncommitted(books: &Books, scene: &Scene) -> Objections {
    let completed = |order: &Uuid| books.orders.get(order).is_some_and(|row| row.completed);
    let invoices = books.invoices.keys().filter(|order| !completed(order));
    let mut objections: Objections = invoices
        .map(|order| format!("{order} has an invoice and is not a completed order"))
        .collect();
    for topic in ORDER_TOPICS {
        let ours = books.of(topic).iter().filter(|record| is_ours(record));
        let early = ours.filter(|record| {
            let order = record.text_header("ce_subject").and_then(|id| id.parse::<Uuid>().ok());
            let row = order.and_then(|id| books.orders.get(&id));
            row.is_none_or(|row| sequence(record) > row.version)
        });
        let objection =
            |record: &Record| format!("{topic} {:?} was never committed", event_key(record));
        objections.extend(early.map(objection));
    }
    for (topic, documents) in
        [(INVOICE_TOPIC, &books.invoices), (CREDIT_NOTE_TOPIC, &books.credit_notes)]
    {
        let there: HashSet<_> = documents.values().flatten().map(|it| it.invoice_id).collect();
        for record in books.of(topic) {
            let invoice = invoice_id(record);
            if invoice.is_none_or(|id| !there.contains(&id)) {
                objections
                    .push(format!("{topic} was published for {invoice:?}, which does not exist"));
            }
        }
    }
    let published = scene.never.iter().filter(|order| books.orders.contains_key(order));
    objections.extend(published.map(|order| format!("{order} was rolled back and exists")));
    objections
}

fn invoice_id(record: &Record) -> Option<Uuid> {
    let data: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
    data["invoice_id"].as_str()?.parse().ok()
}

fn sequence(record: &Record) -> i64 {
    record.text_header("ce_sequence").and_then(|text| text.parse().ok()).unwrap_or(i64::MAX)
}

/// Outcomes of the records that billing's group has to read.
#[derive(Debug, Default)]
pub(crate) struct Account {
    processed: usize,
    duplicates: usize,
    dead: usize,
    lag: usize,
    lost: Vec<String>,
}

impl Account {
    /// Sorts each record into one outcome. One without an outcome is lost.
    pub(crate) fn of(books: &Books) -> Self {
        let dead = books.positions_of_dead();
        let mut seen = HashSet::new();
        let mut account = Self::default();
        for record in books.for_billing() {
            let position = position_of(record);
            let key = event_key(record).filter(|key| books.inbox.contains(key));
            let next = books.committed.get(&(position.0.clone(), position.1)).copied().unwrap_or(0);
            match key {
                _ if dead.contains(&position) => account.dead += 1,
                Some(key) if seen.insert(key.clone()) => account.processed += 1,
                Some(_) => account.duplicates += 1,
                None if position.2 >= next => account.lag += 1,
                None => account.lost.push(format!("{position:?} {:?}", event_key(record))),
            }
        }
        account
    }
}

/// Checks that every record of billing's topics was processed, is a duplicate, a dead letter or
/// part of the lag, and billing's inbox and dead letters contain no others.
fn every_record_accounted(books: &Books) -> Objections {
    let account = Account::of(books);
    let mut objections: Objections = account
        .lost
        .iter()
        .map(|position| {
            format!("the record {position} is below the committed offset and has no outcome")
        })
        .collect();
    if !objections.is_empty() {
        let Account { processed, duplicates, dead, lag, lost } = &account;
        objections.insert(
            0,
            format!(
                "{processed} processed, {duplicates} duplicates, {dead} dead, {lag} lag, {} lost",
                lost.len()
            ),
        );
    }
    let on_topics: HashSet<EventKey> = books.for_billing().filter_map(event_key).collect();
    let phantoms = books.inbox.difference(&on_topics);
    objections
        .extend(phantoms.map(|key| format!("{key:?} was processed and was never on a topic")));
    let positions: HashSet<_> = books.for_billing().map(position_of).collect();
    let strange = books.dead.iter().filter(|(position, _)| !positions.contains(position));
    objections
        .extend(strange.map(|(position, _)| {
            format!("the dead letter of {position:?} has no original record")
        }));
    objections
}

/// Checks that each dead letter has the key, value and headers of the original record, byte for
/// byte.
fn dead_letters_as_they_were(books: &Books) -> Objections {
    let originals: HashMap<_, _> =
        books.for_billing().map(|record| (position_of(record), record)).collect();
    let mut objections = Objections::new();
    if books.unreadable_dead > 0 {
        objections.push(format!("{} dead letters do not name their origin", books.unreadable_dead));
    }
    for (position, dead) in &books.dead {
        let Some(original) = originals.get(position) else { continue };
        let differs = original.key != dead.key
            || original.value != dead.value
            || own_headers(original) != own_headers(dead);
        if differs {
            objections
                .push(format!("the dead letter of {position:?} differs from the original record"));
        }
    }
    objections
}

/// Returns the headers without those that dead-lettering and replaying add.
fn own_headers(record: &Record) -> Headers {
    let own = |name: &str| !kafka::is_dead_letter_header(name);
    record.headers.iter().filter(|(name, _)| own(name)).collect()
}

/// Checks that every row has a copy on the topic, and the first copies are in the order of the
/// rows.
fn dead_letters_copied(books: &Books) -> Objections {
    let rows: Vec<_> = books.letters.iter().map(Letter::position).collect();
    let (known, mut seen) = (rows.iter().collect::<HashSet<_>>(), HashSet::new());
    let first =
        books.copies.iter().filter(|position| seen.insert(*position) && known.contains(position));
    let first: Vec<_> = first.collect();
    let missing = rows.iter().filter(|position| !seen.contains(position));
    let mut objections: Objections = missing
        .map(|position| format!("the dead letter of {position:?} is not on its topic"))
        .collect();
    if objections.is_empty() && !first.into_iter().eq(&rows) {
        objections.push("the dead letters are in another order on their topic".to_owned());
    }
    objections
}

/// Checks that every replay is finished: letters of sound records are resolved, and poison is dead
/// or parked.
fn replays_resolved(books: &Books, scene: &Scene) -> Objections {
    let expected = |letter: &Letter| {
        let is_poison = scene.poison.contains(&letter.position());
        if is_poison {
            ["dead", "parked"].contains(&&*letter.status)
        } else {
            letter.status == "resolved"
        }
    };
    let wrong = books.letters.iter().filter(|letter| !expected(letter));
    wrong
        .map(|letter| format!("the dead letter of {:?} is {}", letter.position(), letter.status))
        .collect()
}

/// Checks that every poisonous record is a dead letter of billing, and no other record is one of
/// any service, unless the fault may kill sound records of billing.
fn only_poison_is_dead(books: &Books, scene: &Scene) -> Objections {
    let dead = books.positions_of_dead();
    let missing = scene.poison.iter().filter(|position| !dead.contains(position));
    let mut objections: Objections =
        missing.map(|position| format!("the poison {position:?} is not a dead letter")).collect();
    if !scene.dead_by_chance {
        let sound = dead.iter().filter(|position| !scene.poison.contains(**position));
        objections.extend(
            sound.map(|position| {
                format!("{position:?} is a dead letter although its record is sound")
            }),
        );
    }
    let elsewhere = books.dead_elsewhere.iter();
    let sound = elsewhere.filter(|(_, position)| !scene.poison.contains(position));
    objections.extend(sound.map(|(group, position)| {
        format!("{position:?} is a dead letter of {group} although its record is sound")
    }));
    objections
}

/// Checks that the versions of an order increase on each topic, counting only the first delivery of
/// each event.
fn order_per_key(books: &Books) -> Objections {
    let mut objections = Objections::new();
    for topic in ORDER_TOPICS {
        let mut latest: HashMap<&[u8], (i32, i64)> = HashMap::new();
        let mut seen = HashSet::new();
        for record in books.of(topic).iter().filter(|record| is_ours(record)) {
            let (Some(key), true) = (record.key.as_deref(), seen.insert(event_key(record))) else {
                continue;
            };
            let now = (record.partition, sequence(record));
            if let Some(before) = latest.insert(key, now)
                && (before.0 != now.0 || before.1 >= now.1)
            {
                let key = String::from_utf8_lossy(key);
                objections.push(format!("{topic} {key}: {} after {}", now.1, before.1));
            }
        }
    }
    objections
}
