use crate::refusals;

/// Cause of a database error, which determines what the caller should do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorClass {
    /// The server can't be reached, or refuses every request: wait, and count no attempt.
    ///
    /// Includes failed and lost connections (also class 08), and
    ///
    /// | SQLSTATE | meaning |
    /// | --- | --- |
    /// | 25006 | it is read-only: a standby, or demoted to one |
    /// | 28 | it refuses the login |
    /// | 3D | the database does not exist |
    /// | 53 | it is out of resources: connections, memory, disk |
    /// | 57P | it shuts down or starts up, or ended the session |
    /// | 58 | its system fails: an I/O error |
    ///
    /// A statement can also cause the loss of its connection; then a write right after it succeeds.
    Unavailable,
    /// Another transaction conflicts: roll back, let others go first, and try again.
    ///
    /// | SQLSTATE | meaning |
    /// | --- | --- |
    /// | 40 | rolled back the transaction: serialization failure, deadlock |
    /// | 55P03 | did not grant a lock in time |
    /// | 57014 | cancelled the statement, which took too long |
    /// | 25P03, 25P04 | ended the session, whose transaction was idle or open for too long |
    Conflict,
    /// The session lacks a permission (42501), or a row-level policy refuses the row.
    Denied,
    /// The values can't be stored: class 22 (a number out of range, NUL in a text) or 54 (a row or
    /// an index entry that is too large).
    Data,
    /// Anything else: a constraint, a statement that is wrong, no row where there should be one.
    Other,
}

/// Returns the cause of an error.
///
/// The time of a refusal (the server is read-only, shuts down or refuses logins) is recorded: pools
/// of [`crate::PoolOptions`] replace older connections, since such a session may stay unusable
/// after the server has recovered.
///
/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
///
/// ```
/// use pg::{ErrorClass, classify};
///
/// // Wait, and try again.
/// assert_eq!(classify(&sqlx::Error::PoolTimedOut), ErrorClass::Unavailable);
/// assert_eq!(classify(&sqlx::Error::RowNotFound), ErrorClass::Other);
/// ```
pub fn classify(error: &sqlx::Error) -> ErrorClass {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::Protocol(_) => ErrorClass::Unavailable,
        sqlx::Error::Database(error) => error.code().map_or(ErrorClass::Other, |code| {
            if is_refusal_of_session(&code) {
                refusals::note();
            }
            classify_code(&code)
        }),
        _ => ErrorClass::Other,
    }
}

/// Returns the cause of an error that has a database error among its sources, or `None` if it has
/// none.
pub fn classify_chain(error: &(dyn std::error::Error + 'static)) -> Option<ErrorClass> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<sqlx::Error>()).map(classify)
}

fn classify_code(code: &str) -> ErrorClass {
    match code {
        "25006" => ErrorClass::Unavailable,
        "55P03" | "57014" | "25P03" | "25P04" => ErrorClass::Conflict,
        "42501" => ErrorClass::Denied,
        _ if ["08", "28", "3D", "53", "57P", "58"].iter().any(|it| code.starts_with(it)) => {
            ErrorClass::Unavailable
        }
        _ if code.starts_with("40") => ErrorClass::Conflict,
        _ if code.starts_with("22") || code.starts_with("54") => ErrorClass::Data,
        _ => ErrorClass::Other,
    }
}

/// Returns `true` if the server refused because of its own state: it is read-only, out of
/// resources, or refuses logins. Unlike a lost connection, this is never caused by the statement,
/// even if others succeed: a full disk, for example, still accepts rows that fit into existing
/// pages.
pub fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| {
        let refuses = ["28", "3D", "53", "58"].iter().any(|class| code.starts_with(class));
        refuses || matches!(&*code, "25006" | "57P03")
    })
}

/// Returns `true` if existing sessions may stay unusable even after the server has recovered.
fn is_refusal_of_session(code: &str) -> bool {
    code == "25006" || ["28", "3D", "57P"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_whose_fault_it_is() {
        let cases: [(ErrorClass, &[&str]); 5] = [
            (
                ErrorClass::Unavailable,
                &[
                    "08006", "25006", "28P01", "28000", "3D000", "53300", "53100", "57P01",
                    "57P03", "58030",
                ],
            ),
            (ErrorClass::Conflict, &["40001", "40P01", "55P03", "57014", "25P03", "25P04"]),
            (ErrorClass::Denied, &["42501"]),
            (ErrorClass::Data, &["22003", "22021", "54000"]),
            (ErrorClass::Other, &["23505", "42P01", "25P02", "P0001"]),
        ];
        for (fault, codes) in cases {
            for code in codes {
                assert_eq!(classify_code(code), fault, "{code}");
            }
        }
    }

    #[test]
    fn a_connection_that_fails_is_unavailable_and_an_answer_is_not() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for error in [sqlx::Error::Io(reset), sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed] {
            assert_eq!(classify(&error), ErrorClass::Unavailable, "{error}");
        }
        assert_eq!(classify(&sqlx::Error::RowNotFound), ErrorClass::Other);
    }

    #[test]
    fn a_database_error_is_found_among_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the parcel could not be stored")]
        struct NotStored(#[source] sqlx::Error);

        assert_eq!(
            classify_chain(&NotStored(sqlx::Error::PoolTimedOut)),
            Some(ErrorClass::Unavailable)
        );
        assert_eq!(classify_chain(&std::fmt::Error), None);
    }
}
