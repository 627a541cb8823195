//! Texts of the e-mails.

use std::fmt::Write as _;

use events::{InvoiceCredited, InvoiceIssued, Order, OrderCancelled, OrderId};
use iso_currency::Currency;
use serde::Deserialize;
use utoipa::ToSchema;

/// Kinds of e-mails.
pub(crate) const KINDS: [&str; 5] =
    ["acknowledgement", "confirmation", "receipt", "cancellation", "credit_note"];

/// Maximum number of items that a confirmation lists, and maximum length of their names.
const MAX_LISTED: usize = 200;
const MAX_SKU_CHARS: usize = 100;

/// A kind of e-mail in a query.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
pub(crate) struct EmailKind(pub(crate) String);

impl TryFrom<String> for EmailKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if KINDS.contains(&text.as_str()) {
            return Ok(Self(text));
        }
        Err(format!("kind must be one of {}", KINDS.join(", ")))
    }
}

/// Text of an e-mail for a recipient. The subject becomes a header, so it contains no external
/// text.
pub(crate) struct EmailText<'a> {
    pub(crate) kind: &'static str,
    /// The address in the event. It is parsed when the e-mail is sent.
    pub(crate) to: &'a str,
    pub(crate) subject: String,
    pub(crate) body: String,
}

impl<'a> EmailText<'a> {
    /// Returns the text for a placed order.
    pub(crate) fn acknowledgement(order: OrderId, to: &'a str, currency: &str, total: i64) -> Self {
        Self {
            kind: "acknowledgement",
            to,
            subject: format!("We have your order {order}"),
            body: format!(
                "Thank you. We have your order {order}.\n\nTotal: {}\n",
                amount(total, currency)
            ),
        }
    }

    /// Returns the text for a completed order.
    pub(crate) fn confirmation(order: &'a Order) -> Self {
        let mut body = format!("Thank you. Your order {} is complete.\n\n", order.order_id);
        for item in order.items.iter().take(MAX_LISTED) {
            let price = amount(item.unit_price, &order.currency);
            let sku: String = item.sku.chars().take(MAX_SKU_CHARS).collect();
            let _ = writeln!(body, "  {} x {}, {price} each", item.quantity, on_one_line(&sku));
        }
        if let Some(more) = order.items.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
            let _ = writeln!(body, "  and {more} more");
        }
        let _ = write!(body, "\nTotal: {}\n", amount(order.total, &order.currency));
        Self {
            kind: "confirmation",
            to: &order.customer_email,
            subject: format!("Your order {}", order.order_id),
            body,
        }
    }

    /// Returns the text for a cancelled order.
    pub(crate) fn cancellation(event: &'a OrderCancelled) -> Self {
        let order = &event.order;
        let mut body = format!("Your order {} is cancelled.\n", order.order_id);
        if event.completed_at.is_some() {
            body.push_str("You will receive a credit note for its invoice.\n");
        }
        Self {
            kind: "cancellation",
            to: &order.customer_email,
            subject: format!("Your order {} is cancelled", order.order_id),
            body,
        }
    }

    /// Returns the text for a credited invoice.
    pub(crate) fn credit_note(note: &'a InvoiceCredited) -> Self {
        let InvoiceCredited { number, invoice_number, order_id, .. } = note;
        Self {
            kind: "credit_note",
            to: &note.customer_email,
            subject: format!("Credit note {number} for invoice {invoice_number}"),
            body: format!(
                "Credit note {number} of {}\nInvoice {invoice_number}\nOrder {order_id}\n\nCredited: {}\n",
                note.credited_at.date(),
                amount(note.total, &note.currency),
            ),
        }
    }

    /// Returns the text for an issued invoice.
    pub(crate) fn receipt(invoice: &'a InvoiceIssued) -> Self {
        let InvoiceIssued { number, order_id, .. } = invoice;
        Self {
            kind: "receipt",
            to: &invoice.customer_email,
            subject: format!("Receipt: invoice {number}"),
            body: format!(
                "Invoice {number} of {}\nOrder {order_id}\n\nTotal: {}\n",
                invoice.issued_at.date(),
                amount(invoice.total, &invoice.currency),
            ),
        }
    }
}

/// Formats an amount in minor units: `EUR 13.50`, `JPY 1350`.
fn amount(minor: i64, currency: &str) -> String {
    // Events are not validated again when they are read, so the code may be any text.
    let known = Currency::from_code(currency).filter(|known| known.code() == currency);
    let Some(digits) = known.and_then(Currency::exponent) else {
        return format!("{} {minor} in minor units", on_one_line(currency));
    };
    let digits = usize::from(digits);
    let sign = if minor < 0 { "-" } else { "" };
    // At least one digit precedes the point.
    let figures = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = figures.split_at(figures.len() - digits);
    let point = if digits == 0 { "" } else { "." };
    format!("{currency} {sign}{whole}{point}{fraction}")
}

fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use events::{OrderCompleted, SCHEMAS};

    use super::*;

    #[test]
    fn amounts_have_as_many_digits_as_the_currency() {
        for (minor, currency, written) in [
            (1350, "EUR", "EUR 13.50"),
            (5, "EUR", "EUR 0.05"),
            (0, "EUR", "EUR 0.00"),
            (-5, "EUR", "EUR -0.05"),
            (1350, "JPY", "JPY 1350"),
            (1350, "BHD", "BHD 1.350"),
            (i64::MIN, "EUR", "EUR -92233720368547758.08"),
            (1350, "eur", "eur 1350 in minor units"),
            (1350, "E\n\n", "E   1350 in minor units"),
        ] {
            assert_eq!(amount(minor, currency), written);
        }
    }

    #[test]
    fn what_is_kept_of_a_large_order_is_bounded() {
        let file = SCHEMAS.iter().find(|file| file.event_type == "order.completed").unwrap();
        let mut order = serde_json::from_str::<OrderCompleted>(file.example).unwrap().order;
        order.items[0].sku = "x".repeat(100_000);
        order.items = vec![order.items[0].clone(); 10_000];
        let body = EmailText::confirmation(&order).body;
        assert!(body.len() < 50_000 && body.contains("\n  and 9800 more\n"), "{}", body.len());
    }

    #[test]
    fn a_confirmation_lists_what_was_ordered_each_on_its_line() {
        let file = SCHEMAS.iter().find(|file| file.event_type == "order.completed").unwrap();
        let mut order = serde_json::from_str::<OrderCompleted>(file.example).unwrap().order;
        order.items[0].sku = "book\r\nTotal: EUR 0.00".into();
        let text = EmailText::confirmation(&order);
        assert_eq!(text.body.lines().count(), 4 + order.items.len());
        assert!(text.body.contains("book  Total: EUR 0.00, EUR "), "{}", text.body);
        assert!(text.body.ends_with("\nTotal: EUR 13.50\n"), "{}", text.body);
        assert_eq!(text.subject, format!("Your order {}", order.order_id));
    }
}
