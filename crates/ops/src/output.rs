//! Standard output.

use std::io::{self, ErrorKind, Write};

/// Writes to standard output until its reader closes it, and discards the rest.
///
/// `orderflow .. | head -1` closes the pipe early. Rust ignores SIGPIPE, so that `println!` would
/// panic. The command continues instead of failing, because it may do more than print: for example
/// it waits for a replay, whose outcome decides the exit status.
pub(crate) struct Output<W> {
    to: W,
    closed: bool,
}

impl Output<io::StdoutLock<'static>> {
    /// Locks standard output for the rest of the command.
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout().lock())
    }
}

impl<W> Output<W> {
    fn new(to: W) -> Self {
        Self { to, closed: false }
    }

    /// Returns `true` if the reader has closed the output.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Records that the reader is gone, and returns any other error.
    fn unless_closed<T>(&mut self, written: io::Result<T>, dropped: T) -> io::Result<T> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(dropped)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.unless_closed(flushed, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails each write with this error.
    struct Failing(ErrorKind, u32);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error_and_is_not_written_to_again() {
        let mut output = Output::new(Failing(ErrorKind::BrokenPipe, 0));
        writeln!(output, "one").unwrap();
        writeln!(output, "two").unwrap();
        output.flush().unwrap();
        assert_eq!(output.to.1, 1);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut output = Output::new(Failing(ErrorKind::StorageFull, 0));
        assert_eq!(writeln!(output, "one").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
