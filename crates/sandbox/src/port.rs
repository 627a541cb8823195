//! Ports on loopback: a free one, or who holds a taken one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::{fmt, io, net::TcpListener};

use crate::Error;

/// Ports that were returned as free.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// A port that nobody listens on at this moment. Another process may take it before the caller
/// does, so whoever starts something on it tries again with the next one if that fails.
///
/// No port is returned twice in one process: what was to listen on the first may not have begun.
pub fn free() -> io::Result<u16> {
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

/// A port like [`free`], for a server that is stopped and started again on it: one below 32768, where Linux and macOS take
/// none for outgoing connections, so that it is still free then.
pub(crate) fn lasting() -> io::Result<u16> {
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

/// Who listens on `port`: `None` if nobody does, or if it is another user's process and this one
/// may not look into it.
pub fn holder(port: u16) -> Option<Holder> {
    let process = listeners::get_process_by_port(port, listeners::Protocol::TCP).ok()?;
    Some(Holder { pid: process.pid, name: process.name })
}

/// Checks that `port` can be listened on now.
///
/// # Errors
/// [`Error::PortTaken`], naming who holds it.
pub fn check(port: u16) -> Result<(), Error> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::PortTaken { port, holder: holder(port) }),
    }
}

/// Starts something on `wanted`, or on a free port; then on another one if somebody was faster.
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
