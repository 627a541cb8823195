use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may read nothing. All its stalls together may last as long, plus the time that
/// the written bytes take at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per second below which a client is too slow.
const SLOWEST: u64 = 16 * 1024;

/// The stream of a connection. A write fails with a time-out if the client reads nothing for too
/// long, or too little in total. Only the time spent waiting for the client counts, so a response
/// may be a stream without end.
pub(super) struct TimedStream<S> {
    stream: S,
    /// Bytes that were written.
    written: u64,
    /// Time in which nothing could be written, without the current stall.
    waited: Duration,
    stall: Option<Stall>,
}

struct Stall {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, written: 0, waited: Duration::ZERO, stall: None }
    }

    /// Counts the written bytes, and checks the limits.
    fn check_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written += *bytes as u64;
        }
        self.check(cx, written)
    }

    /// Checks the limits. Fails with a time-out if the client is too slow.
    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waited += self.stall.take().map_or(Duration::ZERO, |stall| stall.since.elapsed());
            return result;
        }
        let left = self.left();
        let stall = self.stall.get_or_insert_with(|| Stall {
            since: Instant::now(),
            until: Box::pin(tokio::time::sleep(left)),
        });
        ready!(stall.until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Returns how long the client may continue to read nothing.
    fn left(&self) -> Duration {
        let allowed = PATIENCE + Duration::from_secs(self.written / SLOWEST);
        allowed.saturating_sub(self.waited).min(PATIENCE)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Checks the limits, too: a TLS stream accepts a write before its socket does.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.check(cx, flushed)
    }

    /// Checks the limits, too: a TLS stream has to write its end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.check(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    use super::*;

    /// Writes 600 KiB to a client that reads at a rate. Returns the duration, and whether the
    /// client was too slow.
    async fn write_at(bytes_per_second: usize) -> (Duration, bool) {
        let (mut client, pipe) = tokio::io::duplex(1024);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; bytes_per_second];
            while client.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let written = TimedStream::new(pipe).write_all(&vec![0; 600 * 1024]).await;
        reader.abort();
        (began.elapsed(), written.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_or_too_little_is_given_up() {
        for (rate, secs) in [(0, 30), (1, 30), (1024, 32), (8 * 1024, 60)] {
            let (took, was_too_slow) = write_at(rate).await;
            assert!(was_too_slow, "{rate}");
            assert!(took.as_secs().abs_diff(secs) <= 2, "{rate}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_steadily_gets_all_however_long_it_takes() {
        let (took, was_too_slow) = write_at(15 * 1024).await;
        assert!(!was_too_slow && took > Duration::from_secs(35), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_no_longer_than_a_write() {
        let (_client, pipe) = tokio::io::duplex(1024);
        // As with TLS, the write is complete before the pipe has the bytes.
        let mut stream = TimedStream::new(BufWriter::new(pipe));
        stream.write_all(&[0; 4096]).await.unwrap();
        let began = Instant::now();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
