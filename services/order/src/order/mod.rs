//! Orders and their changes.

mod rules;

use envelope::{Cause, Event, NewEvent, TenantId};
use events::{
    Item, OrderCancelled, OrderCompleted, OrderCreated, OrderId, OrderStatus, OrderUpdated,
};
use time::OffsetDateTime;

use self::rules::{Lines, check_currency, check_email};
pub(crate) use self::rules::{Violation, Violations};

/// CloudEvents `source` of the order events.
const SOURCE: &str = "/order";

/// A requested order, not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) customer_email: String,
    pub(crate) currency: String,
    pub(crate) items: Vec<Item>,
}

/// A requested change, not checked yet. `None` leaves a field unchanged.
#[derive(Clone, Default, Debug)]
pub(crate) struct DraftChange {
    pub(crate) customer_email: Option<String>,
    pub(crate) items: Option<Vec<Item>>,
}

/// A valid change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ValidChange {
    customer_email: Option<String>,
    lines: Option<Lines>,
}

/// A valid order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// The state that every event of the order carries.
    pub(crate) state: events::Order,
    /// Number of changes, starting with 1 for the new order.
    pub(crate) version: i64,
    /// Set if `state.status` is completed, or was completed before the order was cancelled.
    pub(crate) completed_at: Option<OffsetDateTime>,
    /// Set if `state.status` is cancelled.
    pub(crate) cancelled_at: Option<OffsetDateTime>,
}

/// The order can't be changed or completed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the order is completed and can only be cancelled")]
    Completed,
    #[error("the order is cancelled and can't be changed")]
    Cancelled,
}

impl Draft {
    /// Returns the first version of the order, and its event. Fails with every rule that the draft
    /// violates.
    pub(crate) fn place(
        self,
        tenant_id: TenantId,
        now: OffsetDateTime,
        cause: Cause,
    ) -> Result<(Order, NewEvent<OrderCreated>), Violations> {
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
        let order = Order { state, version: 1, completed_at: None, cancelled_at: None };
        let message = order.message(OrderCreated(order.state.clone()), cause);
        Ok((order, message))
    }
}

impl DraftChange {
    /// Returns the valid change. Fails with every rule that the draft violates.
    pub(crate) fn check(self) -> Result<ValidChange, Violations> {
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
            Ok(ValidChange { customer_email, lines })
        } else {
            Err(Violations(violations))
        }
    }
}

impl Order {
    /// Applies a change. Returns the next version and its event. Fails unless the order is open.
    pub(crate) fn update(
        mut self,
        change: ValidChange,
        cause: Cause,
    ) -> Result<(Self, NewEvent<OrderUpdated>), Closed> {
        self.still_open()?;
        if let Some(customer_email) = change.customer_email {
            self.state.customer_email = customer_email;
        }
        if let Some(Lines { items, total }) = change.lines {
            self.state.items = items;
            self.state.total = total;
        }
        self.version += 1;
        let message = self.message(OrderUpdated(self.state.clone()), cause);
        Ok((self, message))
    }

    /// Completes the order. Returns the next version and its event. Fails unless the order is open.
    pub(crate) fn complete(
        mut self,
        now: OffsetDateTime,
        cause: Cause,
    ) -> Result<(Self, NewEvent<OrderCompleted>), Closed> {
        self.still_open()?;
        self.state.status = OrderStatus::Completed;
        self.completed_at = Some(now);
        self.version += 1;
        let completed = OrderCompleted { order: self.state.clone(), completed_at: now };
        let message = self.message(completed, cause);
        Ok((self, message))
    }

    /// Cancels the order. Returns the next version and its event, or `None` if the order is already
    /// cancelled.
    pub(crate) fn cancel(
        mut self,
        now: OffsetDateTime,
        cause: Cause,
    ) -> Option<(Self, NewEvent<OrderCancelled>)> {
        if self.state.status == OrderStatus::Cancelled {
            return None;
        }
        self.state.status = OrderStatus::Cancelled;
        self.cancelled_at = Some(now);
        self.version += 1;
        let cancelled = OrderCancelled {
            order: self.state.clone(),
            completed_at: self.completed_at,
            cancelled_at: now,
        };
        let message = self.message(cancelled, cause);
        Some((self, message))
    }

    fn still_open(&self) -> Result<(), Closed> {
        match self.state.status {
            OrderStatus::Open => Ok(()),
            OrderStatus::Completed => Err(Closed::Completed),
            OrderStatus::Cancelled => Err(Closed::Cancelled),
        }
    }

    fn message<E: Event>(&self, data: E, cause: Cause) -> NewEvent<E> {
        NewEvent::new(SOURCE, data, cause).version(self.version)
    }
}

#[cfg(test)]
mod tests;
