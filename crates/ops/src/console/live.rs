//! Signals to pages, which contain only the area that has changed. A page then requests its parts
//! again, with its own filters.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::Stream;
use futures::stream::unfold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Console, Fields};

/// Interval of the keep-alive of a stream without signals.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An area that has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Topic {
    Overview,
    /// Dead letters and replays.
    Failures,
    Lag,
    Jobs,
    History,
    Flow,
}

impl Topic {
    pub(crate) const ALL: [Self; 6] =
        [Self::Overview, Self::Failures, Self::Lag, Self::Jobs, Self::History, Self::Flow];

    /// Returns the name of its event.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Failures => "failures",
            Self::Lag => "lag",
            Self::Jobs => "jobs",
            Self::History => "history",
            Self::Flow => "flow",
        }
    }
}

/// The signals of this process. Of each topic only the latest counts, so a page receives many
/// signals as one.
#[derive(Clone)]
pub(crate) struct Live {
    /// Identifies the process.
    epoch: Uuid,
    signals: watch::Sender<Signals>,
}

/// The number of the last signal, and the last number of each topic.
#[derive(Clone, Copy, Default)]
struct Signals {
    last: u64,
    of: [u64; Topic::ALL.len()],
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { epoch: Uuid::now_v7(), signals: watch::Sender::new(Signals::default()) }
    }

    /// Signals changes. Every change also changes the overview.
    pub(crate) fn signal(&self, topics: &[Topic]) {
        if topics.is_empty() {
            return;
        }
        self.signals.send_modify(|signals| {
            signals.last += 1;
            for topic in topics.iter().chain([&Topic::Overview]) {
                signals.of[*topic as usize] = signals.last;
            }
        });
    }

    /// Returns a mark of the last signal.
    pub(crate) fn seen(&self) -> String {
        self.mark(self.signals.borrow().last)
    }

    fn mark(&self, last: u64) -> String {
        format!("{}.{last}", self.epoch.simple())
    }

    /// Returns the number of the signal in a mark. Returns `None` if the mark is of another
    /// process, whose signals are unknown.
    fn number(&self, mark: &str) -> Option<u64> {
        let number = mark.split_once('.').filter(|(epoch, _)| epoch.parse() == Ok(self.epoch));
        number.and_then(|(_, number)| number.parse().ok())
    }

    /// Returns the signals after the one in the mark, until shutdown. A page of an earlier process
    /// receives all topics.
    fn events(
        &self,
        mark: &str,
        shutdown: CancellationToken,
    ) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let signals = self.signals.subscribe();
        let last = signals.borrow().last;
        let seen = self.number(mark);
        let state = Following {
            live: self.clone(),
            seen: seen.unwrap_or(last),
            pending: if seen.is_none() { Topic::ALL.to_vec() } else { Vec::new() },
            signals,
            shutdown,
        };
        unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) })
    }
}

/// A stream of signals.
struct Following {
    live: Live,
    signals: watch::Receiver<Signals>,
    seen: u64,
    pending: Vec<Topic>,
    shutdown: CancellationToken,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        while self.pending.is_empty() {
            let seen = self.seen;
            let newer = self.signals.wait_for(|signals| signals.last > seen);
            let signals = *self.shutdown.run_until_cancelled(newer).await?.ok()?;
            self.pending =
                Topic::ALL.into_iter().filter(|it| signals.of[*it as usize] > seen).collect();
            self.seen = signals.last;
        }
        let topic = self.pending.pop()?;
        // Only the last event has the mark, so a stream that is cut between two topics repeats
        // both.
        let event = Event::default().event(topic.as_str()).data("");
        Some(if self.pending.is_empty() { event.id(self.live.mark(self.seen)) } else { event })
    }
}

/// `GET /live`.
pub(super) async fn stream(
    State(console): State<Console>,
    headers: HeaderMap,
    query: Fields,
) -> Response {
    let last = headers.get("last-event-id").and_then(|it| it.to_str().ok());
    let mark = last.or(query.one("seen")).unwrap_or_default();
    let events = console.live.events(mark, console.shutdown.clone());
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt, StreamExt};

    use super::*;

    /// Returns the events that are available, without waiting.
    fn ready(live: &Live, mark: &str) -> Vec<String> {
        let mut events = pin!(live.events(mark, CancellationToken::new()));
        let mut all = Vec::new();
        while let Some(Some(Ok(event))) = events.next().now_or_never() {
            all.push(format!("{event:?}"));
        }
        all
    }

    #[test]
    fn a_flood_is_one_signal_a_topic_and_what_was_seen_is_not_repeated() {
        let live = Live::new();
        let before = live.seen();
        assert_eq!(ready(&live, &before).len(), 0);
        (0..1_000).for_each(|_| live.signal(&[Topic::Failures]));
        let signals = ready(&live, &before);
        assert_eq!(signals.len(), 2, "failures and overview: {signals:?}");
        assert_eq!(ready(&live, &live.seen()).len(), 0);
    }

    #[test]
    fn a_page_of_an_earlier_process_gets_everything() {
        let live = Live::new();
        let earlier = Live::new();
        earlier.signal(&[Topic::Jobs]);
        live.signal(&[Topic::Lag]);
        assert_eq!(ready(&live, &earlier.seen()).len(), Topic::ALL.len());
    }
}
