use std::error::Error;
use std::fmt;

use kafka::Reason;
use pg::ErrorClass;

use crate::fingerprint::fingerprint;

/// Effect of a failure on the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Every attempt will fail: the message becomes a dead letter at once.
    Permanent,
    /// A later attempt may succeed: the message is retried, then becomes a dead letter.
    Transient,
    /// Something blocks only this message, for example a lock: its key waits, and other keys
    /// continue. Attempts are counted only if this lasts while others succeed (see
    /// [`Options::conflict_limit`](crate::Options::conflict_limit)).
    Conflict,
    /// A dependency is unavailable, and no attempt is counted. The subscription waits if the
    /// database accepts no write either; otherwise only the message's key waits.
    Unavailable,
}

/// Origin of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// The handler returned it, or the pool has no connection.
    Handler,
    /// The session was lost.
    Lost,
    /// The database refused, for a reason that is not specific to the statement.
    Refused,
    /// Another transaction held a lock for too long.
    Locked,
    /// Any other error of the database.
    Answered,
}

impl Origin {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            _ if pg::is_refusal(error) => Self::Refused,
            sqlx::Error::Database(answer)
                if answer.code().is_some_and(|it| it.starts_with("57P")) =>
            {
                Self::Lost
            }
            sqlx::Error::Database(answer) if answer.code().as_deref() == Some("55P03") => {
                Self::Locked
            }
            sqlx::Error::Database(_) => Self::Answered,
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Self::Lost
            }
            _ => Self::Handler,
        }
    }
}

/// Why a message was not processed. `?` on a [`sqlx::Error`] classifies it (see [`pg::classify`]):
///
/// | class of the error | class of the failure |
/// | --- | --- |
/// | `Unavailable` | [`Class::Unavailable`] if a write fails as well, else [`Class::Conflict`] |
/// | `Conflict`, `Denied` | [`Class::Conflict`] |
/// | `Data`, `Other` | [`Class::Transient`] |
///
/// ```
/// use consumer::{Class, Failure};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the total is not positive")]
/// struct NotPositive;
///
/// fn check(total: i64) -> Result<(), Failure> {
///     if total > 0 { Ok(()) } else { Err(Failure::permanent(NotPositive)) }
/// }
///
/// assert_eq!(check(-1).unwrap_err().class(), Class::Permanent); // a dead letter, without a retry
/// ```
#[derive(Debug)]
pub struct Failure {
    class: Class,
    exception: &'static str,
    origin: Origin,
    error: Box<dyn Error + Send + Sync>,
}

/// Transparent: shows the message and sources of the inner error.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl Failure {
    /// Creates a failure of a message that can never succeed: it can't be decoded, or a business
    /// rule forbids it.
    pub fn permanent<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::new(Class::Permanent, error)
    }

    /// Creates a failure after which a later attempt may succeed.
    pub fn transient<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::new(Class::Transient, error)
    }

    /// Creates a failure for an unavailable dependency. While the database accepts writes, each key
    /// that fails so is tried again by itself, uncounted, and the others continue; to stop them,
    /// [pause](crate::pause) the subscription. The text of the error is shown as the reason of a
    /// parked key, without a token, on the admin port.
    pub fn unavailable<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::new(Class::Unavailable, error)
    }

    fn new<E: Error + Send + Sync + 'static>(class: Class, error: E) -> Self {
        Self {
            class,
            exception: std::any::type_name::<E>(),
            origin: Origin::Handler,
            error: Box::new(error),
        }
    }

    /// Returns the effect of the failure on the message.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Classifies an error of the consumer's own statements, which are the same for every message:
    /// a missing permission affects all messages, and a value that can't be stored is a permanent
    /// failure of its message.
    pub(crate) fn own(error: sqlx::Error) -> Self {
        let class = match pg::classify(&error) {
            ErrorClass::Unavailable | ErrorClass::Denied => Class::Unavailable,
            ErrorClass::Conflict => Class::Conflict,
            ErrorClass::Data => Class::Permanent,
            ErrorClass::Other => Class::Transient,
        };
        Self::of_database(class, error)
    }

    fn of_database(class: Class, error: sqlx::Error) -> Self {
        Self { origin: Origin::of(&error), ..Self::new(class, error) }
    }

    /// Returns whether a statement waited too long for a lock that another transaction holds.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.origin == Origin::Locked
    }

    /// Returns whether the database refused for a reason that is not specific to the statement.
    pub(crate) fn is_refusal(&self) -> bool {
        self.origin == Origin::Refused
    }

    /// Returns whether the message itself may be the cause if it keeps failing while others
    /// succeed: a conflict, a refusal by the database, or a statement that ends its session.
    pub(crate) fn may_be_the_messages(&self) -> bool {
        self.class == Class::Conflict || matches!(self.origin, Origin::Refused | Origin::Lost)
    }

    /// Returns whether the inner error has type `E`.
    pub(crate) fn is<E: Error + 'static>(&self) -> bool {
        self.error.is::<E>()
    }

    /// Returns a fingerprint that is equal for failures that differ only in ids and numbers.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(self.exception, &*self.error)
    }

    /// Returns the reason as stored in the headers of a dead letter.
    pub(crate) fn reason(&self) -> Reason {
        // Postgres stores no NUL in a text.
        let storable = |text: String| text.replace('\0', "\u{fffd}");
        let causes = std::iter::successors(self.error.source(), |cause| (**cause).source());
        let lines = std::iter::once(self.error.to_string()).chain(causes.map(ToString::to_string));
        let lines: Vec<_> = lines.map(storable).collect();
        Reason {
            exception: self.exception.to_owned(),
            message: storable(telemetry::error_chain(&*self.error)),
            stacktrace: lines.join("\ncaused by: "),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let class = match pg::classify(&error) {
            ErrorClass::Unavailable => Class::Unavailable,
            // A missing permission on one table blocks only the messages that need the table, and a
            // row-level policy refuses single rows. Neither affects other messages.
            ErrorClass::Conflict | ErrorClass::Denied => Class::Conflict,
            ErrorClass::Data | ErrorClass::Other => Class::Transient,
        };
        Self::of_database(class, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_database_is_classified_by_the_question_mark() {
        fn handler(result: Result<(), sqlx::Error>) -> Result<(), Failure> {
            Ok(result?)
        }
        let class = |error| handler(Err(error)).expect_err("failed").class();
        assert_eq!(class(sqlx::Error::PoolTimedOut), Class::Unavailable);
        assert_eq!(class(sqlx::Error::RowNotFound), Class::Transient);
    }

    #[test]
    fn the_reason_has_the_whole_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("no charge")]
        struct NoCharge(#[source] std::num::ParseIntError);

        let cause = "x".parse::<i32>().expect_err("no number");
        let reason = Failure::permanent(NoCharge(cause)).reason();
        assert!(reason.exception.ends_with("NoCharge"), "{}", reason.exception);
        assert_eq!(reason.message, "no charge: invalid digit found in string");
        assert_eq!(reason.stacktrace, "no charge\ncaused by: invalid digit found in string");
    }
}
