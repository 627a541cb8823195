//! Tracks the requests of a connection until their responses are sent. Memory and the slot in
//! flight of a request are released when the kernel has the last byte of its response. The end of a
//! body comes earlier: hyper has buffered it then.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use super::limits::RequestSlot;
use super::memory::HeldBytes;

/// Memory and the slot in flight of a request, held until its response is sent. A response carries
/// them to the connection as an extension.
#[derive(Clone, Debug)]
pub(super) struct RequestResources {
    _occupied: Arc<(Option<Arc<RequestSlot>>, HeldBytes)>,
}

impl RequestResources {
    pub(super) fn new(slot: Option<Arc<RequestSlot>>, memory: HeldBytes) -> Self {
        Self { _occupied: Arc::new((slot, memory)) }
    }
}

/// The requests of a connection. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Exchange(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Number of requests whose response body hyper has not read completely.
    open: usize,
    /// `true` from the beginning of a request until its response is flushed.
    is_busy: bool,
    resources: Vec<RequestResources>,
}

impl Exchange {
    /// Records that a request is being answered.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.open += 1;
        state.is_busy = true;
    }

    /// Records that a response is being sent.
    pub(super) fn send(&self, mut response: Response) -> hyper::Response<SentBody> {
        if let Some(resources) = response.extensions_mut().remove::<RequestResources>() {
            self.state().resources.push(resources);
        }
        response.map(|body| SentBody { body, exchange: self.clone() })
    }

    /// Records that hyper has flushed all bytes to the kernel. Returns `true` if no request is
    /// being answered.
    pub(super) fn flushed(&self) -> bool {
        let mut state = self.state();
        if state.open > 0 {
            return false;
        }
        state.is_busy = false;
        let sent = std::mem::take(&mut state.resources);
        drop(state);
        drop(sent);
        true
    }

    /// Returns `false` from the beginning of a request until its response is flushed.
    pub(super) fn is_idle(&self) -> bool {
        !self.state().is_busy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response, which reports its end to the exchange.
pub(super) struct SentBody {
    body: Body,
    exchange: Exchange,
}

impl Drop for SentBody {
    fn drop(&mut self) {
        self.exchange.state().open -= 1;
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
