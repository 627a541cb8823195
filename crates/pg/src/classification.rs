/// Returns `true` if the server was unavailable, rather than asked for something that it can't do: whoever sent the
/// statement should wait and send it again, and count no attempt.
///
/// These are a connection that could not be made or was lost (also class 08), and a server that
///
/// | SQLSTATE | meaning |
/// | --- | --- |
/// | 53 | is out of resources: connections, memory, disk |
/// | 57P0 | shuts down, starts up, or dropped the database |
/// | 25P03 | ended the session: idle in a transaction for too long |
/// | 40001, 40P01 | rolled back the transaction: serialization failure, deadlock |
/// | 55P03 | did not grant a lock in time |
///
/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_unavailable_code(&code)),
        _ => false,
    }
}

fn is_unavailable_code(code: &str) -> bool {
    ["08", "53", "57P0"].iter().any(|class| code.starts_with(class))
        || ["25P03", "40001", "40P01", "55P03"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_server_that_is_unavailable() {
        for code in ["08006", "53300", "57P01", "57P03", "25P03", "40001", "40P01", "55P03"] {
            assert!(is_unavailable_code(code), "{code}");
        }
        for code in ["23505", "22003", "42P01", "57014", "25P02"] {
            assert!(!is_unavailable_code(code), "{code}");
        }
    }

    #[test]
    fn a_connection_that_fails_is_unavailable_and_an_answer_is_not() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for error in [sqlx::Error::Io(reset), sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed] {
            assert!(is_unavailable(&error), "{error}");
        }
        assert!(!is_unavailable(&sqlx::Error::RowNotFound));
    }
}
