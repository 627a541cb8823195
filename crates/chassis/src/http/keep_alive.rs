//! Limits of a connection: its idle time, the time for a request's head, and the pace at which a
//! response is read. hyper has one limit for the first two, which counts from the end of the
//! previous response, and none for the third.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Exchange;
use super::refusal;
use super::write_limit::WriteLimit;

/// Maximum time for the head of a request to arrive, counted from its first byte. That of the first
/// request counts from the opening of the connection, so that a client that sends nothing does not
/// keep a place for as long as one that was answered.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time of the first byte since hyper began to wait for a request. Shared by the timer and the
/// stream of a connection.
type FirstByte = Arc<Mutex<Option<Instant>>>;

/// The timer of a connection. hyper's server uses timers only for the head of a request.
pub(super) struct HeadTimer {
    first_byte: FirstByte,
    /// `true` once the wait for the first request has begun.
    has_begun: AtomicBool,
}

/// The stream of a connection, which applies the limits.
pub(super) struct TimedStream<S> {
    stream: S,
    first_byte: FirstByte,
    exchange: Exchange,
    limit: WriteLimit,
    /// The response that replaces hyper's own refusal.
    refusal: Option<Refusal>,
}

struct Refusal {
    bytes: Vec<u8>,
    written: usize,
}

/// Creates the timer and the stream of a connection.
pub(super) fn timed<S>(stream: S, exchange: Exchange) -> (HeadTimer, TimedStream<S>) {
    let first_byte = FirstByte::default();
    let timer =
        HeadTimer { first_byte: Arc::clone(&first_byte), has_begun: AtomicBool::new(false) };
    let limit = WriteLimit::default();
    (timer, TimedStream { stream, first_byte, exchange, limit, refusal: None })
}

fn set(first_byte: &FirstByte, at: Option<Instant>) {
    *first_byte.lock().unwrap_or_else(PoisonError::into_inner) = at;
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// Starts the wait for a request.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        set(&self.first_byte, None);
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        let deadline =
            if is_first { deadline.min(Instant::now() + HEAD_TIMEOUT) } else { deadline };
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(WaitForHead { first_byte: Arc::clone(&self.first_byte), sleep, has_begun: false })
    }
}

/// Completes when the connection was idle for too long, or the head of a request took too long.
struct WaitForHead {
    first_byte: FirstByte,
    sleep: Pin<Box<tokio::time::Sleep>>,
    has_begun: bool,
}

impl Sleep for WaitForHead {}

impl Future for WaitForHead {
    type Output = ();

    /// Polls the time limits. hyper calls this after each read that did not complete the head.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun {
            let first_byte = *self.first_byte.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = first_byte {
                self.has_begun = true;
                self.sleep.as_mut().reset((at + HEAD_TIMEOUT).into());
            }
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl<S: AsyncWrite + Unpin> TimedStream<S> {
    /// Writes the refusal that replaces `head`. Returns `None` if `head` is not one of hyper's
    /// refusals.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, head: &[u8]) -> Option<Poll<io::Result<()>>> {
        if self.refusal.is_none() && self.exchange.is_idle() {
            let bytes = refusal::with_problem(head);
            self.refusal = bytes.map(|bytes| Refusal { bytes, written: 0 });
        }
        let refusal = self.refusal.as_mut()?;
        while refusal.written < refusal.bytes.len() {
            let rest = &refusal.bytes[refusal.written..];
            let written = Pin::new(&mut self.stream).poll_write(cx, rest);
            match self.limit.check(cx, written) {
                Poll::Ready(Ok(written)) => refusal.written += written,
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.refusal = None;
        Some(Poll::Ready(Ok(())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if into.filled().len() > before {
            let mut first_byte = self.first_byte.lock().unwrap_or_else(PoisonError::into_inner);
            first_byte.get_or_insert_with(Instant::now);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Some(refused) = this.poll_refusal(cx, bytes) {
            return refused.map_ok(|()| bytes.len());
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.limit.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let [head] = slices
            && let Some(refused) = this.poll_refusal(cx, head)
        {
            return refused.map_ok(|()| head.len());
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.limit.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.exchange.flushed() {
            self.limit = WriteLimit::default();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
