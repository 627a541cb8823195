use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::{BoxError, Error};
use hyper::body::{Frame, SizeHint};

use super::memory::{HeldBytes, NoRoom};

/// The hold on the bytes of a body that have arrived. Clones share it.
pub(super) type HeldBody = Arc<Mutex<HeldBytes>>;

/// Body of a request whose bytes are counted as they arrive. An announced length costs nothing.
struct MeteredBody {
    body: Body,
    held: HeldBody,
}

/// Counts the body of a request against a budget. Reading it fails with [`NoRoom`] if no room is
/// left. The bytes stay counted until the returned hold is dropped, since a handler keeps them,
/// too.
pub(super) fn meter(request: Request, held: HeldBytes) -> (Request, Option<HeldBody>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let held = Arc::new(Mutex::new(held));
    let metered = Arc::clone(&held);
    let request = request.map(|body| Body::new(MeteredBody { body, held: metered }));
    (request, Some(held))
}

/// Returns `true` if a body could not be read for lack of memory.
pub(super) fn is_for_lack_of_room(error: &BoxError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error.as_ref();
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.any(<dyn std::error::Error>::is::<NoRoom>)
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) =
                self.held.lock().unwrap_or_else(PoisonError::into_inner).add(data.len())
        {
            return Poll::Ready(Some(Err(Error::new(error))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
