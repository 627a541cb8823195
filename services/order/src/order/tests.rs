use envelope::CorrelationId;

use super::rules::MAX_TOTAL;
use super::*;

fn item(sku: &str, quantity: i64, unit_price: i64) -> Item {
    Item { sku: sku.to_owned(), quantity, unit_price }
}

fn cause() -> Cause {
    Cause::new(CorrelationId::generate())
}

fn place(change: impl FnOnce(&mut Draft)) -> Result<(Order, NewEvent<OrderCreated>), Violations> {
    let mut draft = Draft {
        customer_email: "ada@example.com".into(),
        currency: "EUR".into(),
        items: vec![item("book", 2, 1095), item("pen", 1, 250)],
    };
    change(&mut draft);
    let tenant = TenantId::new("acme").expect("an id");
    draft.place(tenant, OffsetDateTime::UNIX_EPOCH, cause())
}

fn broken(change: impl FnOnce(&mut Draft)) -> Vec<Violation> {
    place(change).expect_err("refused").0
}

#[test]
fn an_order_adds_up() {
    let (order, created) = place(|_| {}).expect("keeps to the rules");
    assert_eq!((order.state.total, order.version), (2440, 1));
    assert_eq!(created.data().0, order.state);
    assert_eq!(outbox::prepare(created).expect("fits").envelope().version, Some(1));
}

#[test]
fn every_limit_is_inside_and_one_more_is_not() {
    assert!(place(|draft| draft.items = vec![item("a", 1, 1); 100]).is_ok());
    assert_eq!(broken(|draft| draft.items = vec![item("a", 1, 1); 101]), [Violation::Items]);
    assert_eq!(broken(|draft| draft.items.clear()), [Violation::Items]);

    for sku in ["x", "ß\u{1f4d6} 1", &"ß".repeat(64)] {
        assert!(place(|draft| draft.items[0].sku = sku.to_owned()).is_ok(), "{sku:?}");
    }
    for sku in ["", " ", "\u{a0}", "a\0", "a\nb", "a\u{85}", &"ß".repeat(65)] {
        let violations = broken(|draft| draft.items[1].sku = sku.to_owned());
        assert_eq!(violations, [Violation::Sku(1)], "{sku:?}");
    }

    assert!(place(|draft| draft.items[0].quantity = 1_000_000).is_ok());
    for quantity in [i64::MIN, -1, 0, 1_000_001, i64::MAX] {
        let violations = broken(|draft| draft.items[0].quantity = quantity);
        assert_eq!(violations, [Violation::Quantity(0)], "{quantity}");
    }
    assert!(place(|draft| draft.items[0].unit_price = 1_000_000_000_000).is_ok());
    for unit_price in [i64::MIN, -1, 0, 1_000_000_000_001, i64::MAX] {
        let violations = broken(|draft| draft.items[0].unit_price = unit_price);
        assert_eq!(violations, [Violation::UnitPrice(0)], "{unit_price}");
    }
}

#[test]
fn a_total_stays_whole_in_every_reader() {
    let most = || vec![item("a", 9007, 1_000_000_000_000), item("b", 1, 199_254_740_991)];
    let (order, created) = place(|draft| draft.items = most()).expect("the largest total");
    assert_eq!(order.state.total, MAX_TOTAL);
    assert!(outbox::prepare(created).is_ok());

    let one_more = [most(), vec![item("c", 1, 1)]].concat();
    assert_eq!(broken(|draft| draft.items = one_more), [Violation::Total]);
    let overflow = vec![item("a", 1_000_000, 1_000_000_000_000); 100];
    assert_eq!(broken(|draft| draft.items = overflow), [Violation::Total]);
}

#[test]
fn a_currency_is_one_of_iso_4217() {
    for code in ["EUR", "JPY", "BHD"] {
        assert!(place(|draft| draft.currency = code.to_owned()).is_ok(), "{code}");
    }
    for code in ["", "eur", "EURO", "ABC", " EUR", "E\u{3a5}R", "978"] {
        let violations = broken(|draft| draft.currency = code.to_owned());
        assert_eq!(violations, [Violation::Currency], "{code:?}");
    }
}

#[test]
fn an_address_is_one_that_mail_and_schema_take() {
    let domain = format!("{0}.{0}.{0}.com", "d".repeat(60));
    let longest = format!("{}@{domain}", "l".repeat(64));
    for email in
        ["a@b.example", "ada+x@example.com", "\"a.b\"@example.com", "a@localhost", &longest]
    {
        let (_, created) = place(|draft| draft.customer_email = email.to_owned())
            .unwrap_or_else(|violations| panic!("{email}: {violations}"));
        assert!(outbox::prepare(created).is_ok(), "{email}");
    }
    let overlong = format!("a@{}.{domain}", "d".repeat(66));
    assert_eq!(overlong.len(), 255);
    for email in [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "a b@example.com",
        " ada@example.com",
        "ada@example.com ",
        "ada@example.com\n",
        "ada@exam\0ple.com",
        "Ada <ada@example.com>",
        "<ada@example.com>",
        " <ada@example.com>",
        "ada@-example-.com",
        "ada@example..com",
        "ädå@example.com",
        "ada@exämple.com",
        &overlong,
    ] {
        let violations = broken(|draft| draft.customer_email = email.to_owned());
        assert_eq!(violations, [Violation::CustomerEmail], "{email:?}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let violations = place(|draft| {
        draft.customer_email = "ada".into();
        draft.currency = "XYZ".into();
        draft.items[1] = item(" ", 0, -1);
    })
    .expect_err("refused");
    assert_eq!(violations.0.len(), 5);
    let text = violations.to_string();
    for expected in [
        "customer_email must be",
        "currency must be",
        "items[1].sku must be 1 to 64 characters",
        "items[1].quantity must be 1 to 1000000;",
        "items[1].unit_price must be 1 to 1000000000000",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text:?}");
    }
}

#[test]
fn what_is_not_given_stays() {
    let (order, _) = place(|_| {}).expect("keeps to the rules");
    let change = DraftChange { items: Some(vec![item("pen", 3, 250)]), customer_email: None };
    let change = change.check().expect("keeps to the rules");
    let (updated, message) = order.clone().update(change, cause()).expect("open");
    assert_eq!((updated.version, updated.state.total), (2, 750));
    assert_eq!(updated.state.customer_email, order.state.customer_email);
    assert_eq!(outbox::prepare(message).expect("fits").envelope().version, Some(2));

    let nothing = DraftChange::default().check();
    assert_eq!(nothing, Err(Violations(vec![Violation::NothingToChange])));
    let both = DraftChange { items: Some(vec![]), customer_email: Some("ada".into()) }.check();
    assert_eq!(both, Err(Violations(vec![Violation::CustomerEmail, Violation::Items])));
}

#[test]
fn a_completed_order_changes_no_more() {
    let (order, _) = place(|_| {}).expect("keeps to the rules");
    let now = OffsetDateTime::UNIX_EPOCH;
    let (order, message) = order.complete(now, cause()).expect("open");
    assert_eq!((order.version, order.completed_at), (2, Some(now)));
    assert!(outbox::prepare(message).is_ok());

    let change = DraftChange { customer_email: Some("b@example.com".into()), items: None };
    let change = change.check().expect("keeps to the rules");
    assert_eq!(order.clone().update(change, cause()).err(), Some(Closed::Completed));
    assert_eq!(order.complete(now, cause()).err(), Some(Closed::Completed));
}

#[test]
fn an_order_is_cancelled_once_and_says_whether_it_was_completed() {
    let (open, _) = place(|_| {}).expect("keeps to the rules");
    let now = OffsetDateTime::UNIX_EPOCH;
    let (completed, _) = open.clone().complete(now, cause()).expect("open");
    for (before, completed_at) in [(open, None), (completed, Some(now))] {
        let version = before.version + 1;
        let (order, message) = before.cancel(now, cause()).expect("not cancelled");
        assert_eq!((order.version, order.completed_at), (version, completed_at));
        assert_eq!((order.state.status, order.cancelled_at), (OrderStatus::Cancelled, Some(now)));
        assert_eq!(
            (&message.data().order, message.data().completed_at),
            (&order.state, completed_at)
        );
        assert_eq!(outbox::prepare(message).expect("fits").envelope().version, Some(version));

        let change = DraftChange { customer_email: Some("b@example.com".into()), items: None };
        let change = change.check().expect("keeps to the rules");
        assert_eq!(order.clone().update(change, cause()).err(), Some(Closed::Cancelled));
        assert_eq!(order.clone().complete(now, cause()).err(), Some(Closed::Cancelled));
        assert!(order.cancel(now, cause()).is_none());
    }
}
