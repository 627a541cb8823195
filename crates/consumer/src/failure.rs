use std::error::Error;
use std::fmt;

use kafka::Reason;
use pg::ErrorClass;

use crate::fingerprint::fingerprint;

/// What a failure means for the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It will fail for ever: dead letter at once.
    Permanent,
    /// It failed and may succeed: retried, then dead letter.
    Transient,
    /// Something is in the way of this message: its key waits, and others go on. It is counted only if that lasts for
    /// long while others succeed (see [`Options::conflict_limit`](crate::Options::conflict_limit)).
    Conflict,
    /// Something that every message needs is unavailable: waited out, never counted.
    Unavailable,
}

/// Where a failure comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// The handler says so, or the pool has no connection.
    Handler,
    /// The session was lost.
    Lost,
    /// The database answered, and named a condition of its own.
    Refused,
    /// The database answered anything else.
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

/// Transparent: it says what its error says, and has that one's causes.
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
    /// It will fail for ever: it can't be decoded, or a rule of the business forbids it.
    pub fn permanent<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::new(Class::Permanent, error)
    }

    /// It failed and may succeed.
    pub fn transient<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::new(Class::Transient, error)
    }

    /// Something that every message needs is unavailable.
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

    /// What it means for the message.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Classifies an error of the consumer's own statements, which mean the same for every message: a right that is missing
    /// is missing for all of them, and a value that can't be stored is the message's fault for good.
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

    /// Returns whether the database named a condition of its own as the reason.
    pub(crate) fn is_refusal(&self) -> bool {
        self.origin == Origin::Refused
    }

    /// Returns whether the message may be to blame after all, if it goes on failing so for long while others succeed: it is
    /// in conflict with something, the database refuses it, or its statement ends the session.
    pub(crate) fn may_be_the_messages(&self) -> bool {
        self.class == Class::Conflict || matches!(self.origin, Origin::Refused | Origin::Lost)
    }

    /// Returns whether it is an error of that type.
    pub(crate) fn is<E: Error + 'static>(&self) -> bool {
        self.error.is::<E>()
    }

    /// Returns what is the same for failures of one kind, whatever ids and numbers they name.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(self.exception, &*self.error)
    }

    /// As it stands in the headers of a dead letter.
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
            // A right that is missing for one table is in the way of the messages that need it, and a row-level policy
            // refuses one row: neither says anything about others.
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
