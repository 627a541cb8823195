//! Finds free ports on loopback, and the process that holds a taken one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::{fmt, io, net::TcpListener};

use crate::Error;

/// Ports that were returned as free.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Id of the process.
    pub pid: u32,
    /// Name of its program.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Returns a port that is free at the moment. Another process may take it before the caller does;
/// in that case try again with the next one.
///
/// Never returns a port twice in one process, since the server for the first may not listen yet.
///
/// # Errors
/// Fails if no port can be bound.
pub fn free() -> io::Result<u16> {
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

/// Returns a free port for a server that is stopped and started again on it. It is below 32768,
/// where Linux and macOS take no ports for outgoing connections, so it stays free meanwhile.
///
/// # Errors
/// Fails if no port can be bound.
pub fn lasting() -> io::Result<u16> {
    for _ in 0..1_000 {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
        {
            return Ok(port);
        }
    }
    free()
}

/// Returns the process that listens on `port`. Returns `None` if there is none, or if it belongs to
/// another user and can't be inspected.
pub fn holder(port: u16) -> Option<Holder> {
    let process = listeners::get_process_by_port(port, listeners::Protocol::TCP).ok()?;
    Some(Holder { pid: process.pid, name: process.name })
}

/// Checks that `port` is free now.
///
/// # Errors
/// [`Error::PortTaken`], which names the process that holds it.
pub fn check(port: u16) -> Result<(), Error> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::PortTaken { port, holder: holder(port) }),
    }
}

/// Starts something on `wanted`, or on a free port. Retries with another free port if that was
/// taken meanwhile.
pub(crate) async fn start_on<T, F, Fut>(
    wanted: Option<u16>,
    mut start: F,
) -> Result<(u16, T), Error>
where
    F: FnMut(u16) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    if let Some(port) = wanted {
        check(port)?;
        return Ok((port, start(port).await?));
    }
    let mut tries_left = 3;
    loop {
        let port =
            free().map_err(|source| Error::Io { doing: "find a free port".into(), source })?;
        tries_left -= 1;
        match start(port).await {
            Err(Error::Ended { tail, .. }) if tries_left > 0 && tail.contains("in use") => {}
            result => return Ok((port, result?)),
        }
    }
}
