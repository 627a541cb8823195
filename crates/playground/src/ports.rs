use std::io;

use crate::Error;

/// Number of attempts with free ports, if another process takes them before the service does.
const ATTEMPTS: u32 = 3;

/// The ports of one instance of a service, on 127.0.0.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The port of its public API.
    pub http: u16,
    /// The port of its admin API.
    pub admin: u16,
}

impl Ports {
    /// Returns two ports that are free at this moment.
    ///
    /// # Errors
    /// If the system has none.
    pub fn free() -> io::Result<Self> {
        Ok(Self { http: sandbox::port::free()?, admin: sandbox::port::free()? })
    }
}

/// Starts a program on the given ports, or on free ones. If another process has taken the free ones
/// first, tries others.
pub(crate) async fn start_on<T>(
    given: Option<Ports>,
    mut start: impl AsyncFnMut(Ports) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(ports) = given {
        return start(ports).await;
    }
    let mut attempts = ATTEMPTS;
    loop {
        let ports = Ports::free().map_err(Error::io("find free ports"))?;
        attempts -= 1;
        match start(ports).await {
            Err(error) if attempts > 0 && error.is_port_taken() => {}
            started => return started,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn ended(tail: &str) -> Error {
        Error::Sandbox(sandbox::Error::Ended {
            name: "order".into(),
            status: ExitStatus::from_raw(256),
            log: "order.log".into(),
            tail: tail.into(),
        })
    }

    async fn attempts(given: Option<Ports>, error: fn() -> Error) -> usize {
        let mut seen = Vec::new();
        let started = start_on(given, async |ports| {
            seen.push(ports);
            Err::<(), _>(error())
        });
        assert!(started.await.is_err());
        seen.len()
    }

    #[tokio::test]
    async fn only_a_free_port_that_was_taken_is_tried_again() {
        let taken = || ended("Address already in use (os error 98)");
        assert_eq!(attempts(None, taken).await, 3);
        assert_eq!(attempts(Some(Ports { http: 1, admin: 2 }), taken).await, 1);
        assert_eq!(attempts(None, || ended("DATABASE_URL is not set")).await, 1);
    }
}
