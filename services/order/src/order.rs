//! What an order is, and what may become of it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use email_address::{EmailAddress, Options};
use events::{
    Cause, Event, Item, Message, OrderCompleted, OrderCreated, OrderId, OrderStatus, OrderUpdated,
    TenantId,
};
use iso_currency::Currency;
use jsonschema::Validator;
use time::OffsetDateTime;

/// CloudEvents `source` of what is said here.
const SOURCE: &str = "/order";

const ITEMS: RangeInclusive<usize> = 1..=100;
const SKU_CHARS: RangeInclusive<usize> = 1..=64;
const QUANTITY: RangeInclusive<i64> = 1..=1_000_000;
const UNIT_PRICE: RangeInclusive<i64> = 1..=1_000_000_000_000;
/// 2^53-1, so that every JSON reader keeps it whole (RFC 7493, 2.2).
const MAX_TOTAL: i64 = (1 << 53) - 1;
/// RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets.
const MAX_EMAIL_BYTES: usize = 254;

/// A rule that a request breaks: which field, and what it must be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error("items must have {} to {} entries", ITEMS.start(), ITEMS.end())]
    Items,
    #[error("items[{0}].sku must be {min} to {max} characters, not blank and without control characters",
        min = SKU_CHARS.start(), max = SKU_CHARS.end())]
    Sku(usize),
    #[error("items[{0}].quantity must be {min} to {max}", min = QUANTITY.start(), max = QUANTITY.end())]
    Quantity(usize),
    #[error("items[{0}].unit_price must be {min} to {max}", min = UNIT_PRICE.start(), max = UNIT_PRICE.end())]
    UnitPrice(usize),
    #[error("items must not add up to more than {MAX_TOTAL} in minor units")]
    Total,
    #[error("currency must be an ISO 4217 code in capital letters, such as EUR")]
    Currency,
    #[error(
        "customer_email must be an e-mail address of at most {MAX_EMAIL_BYTES} bytes, without a display name"
    )]
    CustomerEmail,
    #[error("items or customer_email must be given")]
    NothingToChange,
}

/// Every rule that a request breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violations(pub(crate) Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            write!(f, "{}{violation}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// An order as somebody asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) customer_email: String,
    pub(crate) currency: String,
    pub(crate) items: Vec<Item>,
}

/// A change as somebody asks for it; what is not given stays.
#[derive(Clone, Default, Debug)]
pub(crate) struct DraftChange {
    pub(crate) customer_email: Option<String>,
    pub(crate) items: Option<Vec<Item>>,
}

/// A change that keeps to the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    customer_email: Option<String>,
    lines: Option<Lines>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Lines {
    items: Vec<Item>,
    total: i64,
}

/// An order that keeps to the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// What every event of it carries.
    pub(crate) state: events::Order,
    /// Counts the changes, from 1.
    pub(crate) version: i64,
    /// Set when `state.status` is completed.
    pub(crate) completed_at: Option<OffsetDateTime>,
}

/// A completed order changes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the order is completed and changes no more")]
pub(crate) struct Completed;

impl Draft {
    /// The first version of an order and what is said of it, if all rules are kept.
    pub(crate) fn place(
        self,
        tenant_id: TenantId,
        now: OffsetDateTime,
        cause: Cause,
    ) -> Result<(Order, Message<OrderCreated>), Violations> {
        let Self { customer_email, currency, items } = self;
        let mut violations = Vec::new();
        check_email(&customer_email, &mut violations);
        check_currency(&currency, &mut violations);
        let lines = Lines::check(items, &mut violations);
        let Some(Lines { items, total }) = lines.filter(|_| violations.is_empty()) else {
            return Err(Violations(violations));
        };
        let state = events::Order {
            order_id: OrderId::new(),
            tenant_id,
            status: OrderStatus::Open,
            customer_email,
            currency,
            items,
            total,
            created_at: now,
        };
        let order = Order { state, version: 1, completed_at: None };
        let message = order.says(OrderCreated(order.state.clone()), cause);
        Ok((order, message))
    }
}

impl DraftChange {
    /// The change, if all rules are kept.
    pub(crate) fn check(self) -> Result<Change, Violations> {
        let Self { customer_email, items } = self;
        let mut violations = Vec::new();
        if customer_email.is_none() && items.is_none() {
            violations.push(Violation::NothingToChange);
        }
        if let Some(customer_email) = &customer_email {
            check_email(customer_email, &mut violations);
        }
        let lines = items.and_then(|items| Lines::check(items, &mut violations));
        if violations.is_empty() {
            Ok(Change { customer_email, lines })
        } else {
            Err(Violations(violations))
        }
    }
}

impl Order {
    /// The next version, with the change.
    pub(crate) fn update(
        mut self,
        change: Change,
        cause: Cause,
    ) -> Result<(Self, Message<OrderUpdated>), Completed> {
        self.still_open()?;
        if let Some(customer_email) = change.customer_email {
            self.state.customer_email = customer_email;
        }
        if let Some(Lines { items, total }) = change.lines {
            self.state.items = items;
            self.state.total = total;
        }
        self.version += 1;
        let message = self.says(OrderUpdated(self.state.clone()), cause);
        Ok((self, message))
    }

    /// The next version, completed.
    pub(crate) fn complete(
        mut self,
        now: OffsetDateTime,
        cause: Cause,
    ) -> Result<(Self, Message<OrderCompleted>), Completed> {
        self.still_open()?;
        self.state.status = OrderStatus::Completed;
        self.completed_at = Some(now);
        self.version += 1;
        let completed = OrderCompleted { order: self.state.clone(), completed_at: now };
        let message = self.says(completed, cause);
        Ok((self, message))
    }

    fn still_open(&self) -> Result<(), Completed> {
        match self.state.status {
            OrderStatus::Open => Ok(()),
            OrderStatus::Completed => Err(Completed),
        }
    }

    fn says<E: Event>(&self, data: E, cause: Cause) -> Message<E> {
        Message::new(SOURCE, self.version, data, cause)
    }
}

impl Lines {
    /// The lines with their sum, or what is wrong with them.
    fn check(items: Vec<Item>, violations: &mut Vec<Violation>) -> Option<Self> {
        if !ITEMS.contains(&items.len()) {
            violations.push(Violation::Items);
            return None;
        }
        let before = violations.len();
        for (n, item) in items.iter().enumerate() {
            if !is_sku(&item.sku) {
                violations.push(Violation::Sku(n));
            }
            if !QUANTITY.contains(&item.quantity) {
                violations.push(Violation::Quantity(n));
            }
            if !UNIT_PRICE.contains(&item.unit_price) {
                violations.push(Violation::UnitPrice(n));
            }
        }
        if violations.len() > before {
            return None;
        }
        let Some(total) = total(&items) else {
            violations.push(Violation::Total);
            return None;
        };
        Some(Self { items, total })
    }
}

fn total(items: &[Item]) -> Option<i64> {
    let sum = items
        .iter()
        .try_fold(0_i64, |sum, item| sum.checked_add(item.quantity.checked_mul(item.unit_price)?));
    sum.filter(|sum| *sum <= MAX_TOTAL)
}

fn is_sku(text: &str) -> bool {
    SKU_CHARS.contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && !text.trim().is_empty()
}

fn check_currency(code: &str, violations: &mut Vec<Violation>) {
    // The crate's reading of a code is compared, so that it can't be more lenient than the schema.
    if Currency::from_code(code).is_none_or(|currency| currency.code() != code) {
        violations.push(Violation::Currency);
    }
}

fn check_email(text: &str, violations: &mut Vec<Violation>) {
    let plain = text.len() <= MAX_EMAIL_BYTES && !text.chars().any(char::is_control);
    let options = Options::default().without_display_text();
    if !plain
        || EmailAddress::parse_with_options(text, options).is_err()
        || !fits_schema_format(text)
    {
        violations.push(Violation::CustomerEmail);
    }
}

/// What the events' schemas call `format: email`, which is stricter about the domain.
fn fits_schema_format(text: &str) -> bool {
    static FORMAT: LazyLock<Validator> = LazyLock::new(|| {
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&serde_json::json!({ "format": "email" }))
            .expect("a schema of one keyword compiles")
    });
    FORMAT.is_valid(&text.into())
}

#[cfg(test)]
mod tests {
    use events::CorrelationId;

    use super::*;

    fn item(sku: &str, quantity: i64, unit_price: i64) -> Item {
        Item { sku: sku.to_owned(), quantity, unit_price }
    }

    fn cause() -> Cause {
        let correlation_id = CorrelationId::generate();
        Cause { correlation_id, causation_id: None, traceparent: None }
    }

    fn place(
        change: impl FnOnce(&mut Draft),
    ) -> Result<(Order, Message<OrderCreated>), Violations> {
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
        assert_eq!(created.envelope.version, 1);
        assert_eq!(created.data.0, order.state);
        assert!(outbox::prepare(created).is_ok());
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
        for said in [
            "customer_email must be",
            "currency must be",
            "items[1].sku must be 1 to 64 characters",
            "items[1].quantity must be 1 to 1000000;",
            "items[1].unit_price must be 1 to 1000000000000",
        ] {
            assert!(text.contains(said), "{said:?} in {text:?}");
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
        assert_eq!(message.envelope.version, 2);

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
        assert_eq!(order.clone().update(change, cause()).err(), Some(Completed));
        assert_eq!(order.complete(now, cause()).err(), Some(Completed));
    }
}
