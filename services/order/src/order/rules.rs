//! Rules for orders.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use email_address::{EmailAddress, Options};
use events::Item;
use iso_currency::Currency;
use jsonschema::Validator;

const ITEMS: RangeInclusive<usize> = 1..=100;
const SKU_CHARS: RangeInclusive<usize> = 1..=64;
const QUANTITY: RangeInclusive<i64> = 1..=1_000_000;
const UNIT_PRICE: RangeInclusive<i64> = 1..=1_000_000_000_000;
/// 2^53-1, the largest integer that every JSON parser reads exactly (RFC 7493, 2.2).
pub(super) const MAX_TOTAL: i64 = (1 << 53) - 1;
/// RFC 5321, 4.5.3.1.3: a path has at most 256 octets including its angle brackets.
const MAX_EMAIL_BYTES: usize = 254;

/// A violated rule. Its message names the field and the allowed values.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error("items must have {} to {} entries", ITEMS.start(), ITEMS.end())]
    Items,
    #[error("items[{0}].sku must be {min} to {max} characters, not blank and without control characters",
        min = SKU_CHARS.start(), max = SKU_CHARS.end())]
    Sku(usize),
    #[error("items[{0}].quantity must be {min} to {max}", min = QUANTITY.start(), max = QUANTITY.end())]
    Quantity(usize),
    #[error("items[{0}].unit_price must be {min} to {max} in minor units", min = UNIT_PRICE.start(), max = UNIT_PRICE.end())]
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

/// Every rule that a request violates.
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

/// Valid lines, with their sum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lines {
    pub(super) items: Vec<Item>,
    pub(super) total: i64,
}

impl Lines {
    /// Checks the lines and adds them up. Returns `None`, and adds to `violations`, if they violate
    /// a rule.
    pub(super) fn check(items: Vec<Item>, violations: &mut Vec<Violation>) -> Option<Self> {
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

pub(super) fn check_currency(code: &str, violations: &mut Vec<Violation>) {
    // The parsed code is compared with the text, because the parser must not be more lenient than
    // the schema.
    if Currency::from_code(code).is_none_or(|currency| currency.code() != code) {
        violations.push(Violation::Currency);
    }
}

pub(super) fn check_email(text: &str, violations: &mut Vec<Violation>) {
    let plain = text.len() <= MAX_EMAIL_BYTES && !text.chars().any(char::is_control);
    let options = Options::default().without_display_text();
    // The parser takes ` <ada@example.com>` for an address with an empty display name, which no
    // mail server takes.
    let is_bare = EmailAddress::parse_with_options(text, options)
        .is_ok_and(|it| it.local_part().len() + "@".len() + it.domain().len() == text.len());
    if !plain || !is_bare || !fits_schema_format(text) {
        violations.push(Violation::CustomerEmail);
    }
}

/// Returns whether the text is `format: email` of the events' schemas, which is stricter about the
/// domain.
fn fits_schema_format(text: &str) -> bool {
    static FORMAT: LazyLock<Validator> = LazyLock::new(|| {
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&serde_json::json!({ "format": "email" }))
            .expect("a schema of one keyword compiles")
    });
    FORMAT.is_valid(&text.into())
}
