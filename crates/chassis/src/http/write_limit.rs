use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long a peer may read nothing of a response.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may keep a response waiting in total, in addition to the time that its bytes
/// take at [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(30);
/// Bytes per second below which a peer is too slow.
const SLOWEST: u64 = 16 * 1024;

/// Limits the time that a response waits for its peer, which may read nothing for too long, or too
/// little in total. Only the time spent waiting for the peer counts, so a slow handler is not
/// blamed on it.
#[derive(Default)]
pub(super) struct WriteLimit {
    /// Bytes of the response that were written.
    written: u64,
    /// Time in which nothing could be written, without the current stall.
    waited: Duration,
    stall: Option<Stall>,
}

struct Stall {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

impl WriteLimit {
    /// Checks the limits after a write. Fails with a time-out if the peer is too slow.
    pub(super) fn check(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            self.waited += self.stall.take().map_or(Duration::ZERO, |stall| stall.since.elapsed());
            self.written += written.as_ref().map_or(0, |bytes| *bytes as u64);
            return Poll::Ready(written);
        }
        let left = self.left();
        let stall = self.stall.get_or_insert_with(|| Stall {
            since: Instant::now(),
            until: Box::pin(tokio::time::sleep(left)),
        });
        ready!(stall.until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Returns how long the peer may continue to read nothing.
    fn left(&self) -> Duration {
        let allowed = GRACE + Duration::from_millis(self.written.saturating_mul(1000) / SLOWEST);
        allowed.saturating_sub(self.waited).min(STALL_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream};

    use super::*;

    /// Writes `bytes` bytes into a pipe that holds 1 KiB. Returns the duration, and whether the
    /// peer was too slow.
    async fn write(mut pipe: DuplexStream, bytes: usize) -> (Duration, bool) {
        let (began, mut limit, mut left) = (Instant::now(), WriteLimit::default(), bytes);
        while left > 0 {
            let write = poll_fn(|cx| {
                let write = Pin::new(&mut pipe).poll_write(cx, &[0; 1024][..left.min(1024)]);
                limit.check(cx, write)
            });
            match write.await {
                Ok(written) => left -= written,
                Err(_) => return (began.elapsed(), true),
            }
        }
        (began.elapsed(), false)
    }

    /// Reads at a rate while 600 KiB are written.
    async fn read_at(bytes_per_second: usize) -> (Duration, bool) {
        let (mut peer, pipe) = tokio::io::duplex(1024);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; bytes_per_second];
            while peer.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let written = write(pipe, 600 * 1024).await;
        reader.abort();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_a_byte_now_and_then_is_given_up() {
        for (rate, secs) in [(1, 30), (1024, 32), (8 * 1024, 60)] {
            let (took, was_too_slow) = read_at(rate).await;
            assert!(was_too_slow, "{rate}");
            assert!(took.as_secs().abs_diff(secs) <= 2, "{rate}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_steadily_gets_all_however_long_it_takes() {
        let (took, was_too_slow) = read_at(15 * 1024).await;
        assert!(!was_too_slow && took > Duration::from_secs(35), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (_peer, pipe) = tokio::io::duplex(1024);
        assert_eq!(write(pipe, 2048).await, (STALL_TIMEOUT, true));
    }
}
