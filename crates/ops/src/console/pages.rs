//! Pages of a list whose parts are in several services. The cursor of a page contains the position
//! in each part, so an address leads to the same page in every tab and after a restart.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::silent::Silent;
use crate::client::{Answer, Client, Listed, Listing};
use crate::error::Error;
use crate::moment::parse;

/// Time limit of a service, so that one that hangs does not delay the others.
pub(crate) const ANSWER: Duration = Duration::from_secs(4);

/// An item of a list that has an identity.
pub(crate) trait Paged: Listed {
    fn id(&self) -> String;
}

type List<T> = Box<dyn Fn(&Client) -> Listing<T> + Send + Sync>;

/// A part of the list.
pub(crate) struct Source<T> {
    pub(crate) client: Client,
    /// Distinguishes parts of the same service.
    pub(crate) part: &'static str,
    list: List<T>,
}

/// An item with its service.
pub(crate) struct Of<T> {
    pub(crate) service: String,
    pub(crate) item: T,
}

/// A page, newest first.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<Of<T>>,
    /// The cursor of the next page.
    pub(crate) next: Option<String>,
    /// Services that did not answer.
    pub(crate) silent: Vec<Silent>,
}

/// Position in one part, at which a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartCursor {
    /// Service and part.
    #[serde(rename = "p")]
    part: String,
    /// The service's own cursor. `None` at the beginning.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Id and time of the last item shown after that cursor.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    after: Option<(String, String)>,
}

/// A part that is being read.
struct Reading<T> {
    source: Source<T>,
    place: PartCursor,
    /// The last item that earlier pages have shown, until it is skipped.
    shown: Option<(String, String)>,
    items: VecDeque<(OffsetDateTime, Answer<T>)>,
    /// Cursor of its next page.
    next: Option<String>,
    is_read: bool,
    silent: Option<Silent>,
}

impl<T: Paged> Source<T> {
    pub(crate) fn new(
        client: Client,
        part: &'static str,
        list: impl Fn(&Client) -> Listing<T> + Send + Sync + 'static,
    ) -> Self {
        Self { client, part, list: Box::new(list) }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.client.service, self.part)
    }
}

/// Reads a page of at most `limit` items that `keep` accepts.
///
/// A service that is unavailable is named in the page. Fails if the cursor is malformed or a
/// service refuses the request.
pub(crate) async fn page<T: Paged>(
    sources: Vec<Source<T>>,
    cursor: Option<&str>,
    size: usize,
    keep: impl Fn(&T) -> bool,
) -> Result<Page<T>, Error> {
    let several = sources.iter().any(|it| it.client != sources[0].client);
    let mut readings = begin(sources, cursor)?;
    let mut items = Vec::new();
    while items.len() < size {
        let wanting = readings.iter_mut().filter(|it| it.items.is_empty() && !it.is_at_end());
        let filled = join_all(wanting.map(|it| it.fill(size, several, &keep))).await;
        filled.into_iter().collect::<Result<Vec<_>, _>>()?;
        if readings.iter().any(|it| it.items.is_empty() && !it.is_at_end()) {
            continue;
        }
        let newest = readings.iter_mut().filter(|it| !it.items.is_empty());
        let newest = newest.reduce(|newest, it| {
            let at = |it: &Reading<T>| it.items.front().map(|(at, _)| *at);
            if at(it) > at(newest) { it } else { newest }
        });
        let Some(next) = newest.and_then(Reading::take) else { break };
        items.push(next);
    }
    let next = after(&readings);
    let mut silent: Vec<_> = readings.into_iter().filter_map(|it| it.silent).collect();
    silent.dedup_by(|a, b| a.service == b.service);
    Ok(Page { items, next, silent })
}

fn begin<T: Paged>(
    sources: Vec<Source<T>>,
    cursor: Option<&str>,
) -> Result<Vec<Reading<T>>, Error> {
    let malformed = || Error::Refused("cursor: take it from a page's own links".into());
    let places: Option<Vec<PartCursor>> = match cursor {
        None => None,
        Some(text) => {
            let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
            Some(serde_json::from_slice(&json).map_err(|_| malformed())?)
        }
    };
    let readings = sources.into_iter().filter_map(|source| {
        let part = source.name();
        let place = match &places {
            None => PartCursor { part, ..PartCursor::default() },
            Some(places) => places.iter().find(|it| it.part == part)?.clone(),
        };
        let (next, shown) = (place.cursor.clone(), place.after.clone());
        let items = VecDeque::new();
        Some(Reading { source, place, shown, items, next, is_read: false, silent: None })
    });
    Ok(readings.collect())
}

/// Returns the cursor after the read items. Returns `None` at the end.
fn after<T>(readings: &[Reading<T>]) -> Option<String> {
    let is_running =
        |it: &Reading<T>| !it.items.is_empty() || (it.silent.is_none() && it.next.is_some());
    let places = readings.iter().filter_map(|Reading { place, items, next, silent, .. }| {
        match (items.is_empty(), silent, next) {
            // A service that did not answer may do so on the next page.
            (false, ..) | (true, Some(_), _) => Some(place.clone()),
            (true, None, Some(next)) => {
                let (part, cursor) = (place.part.clone(), Some(next.clone()));
                Some(PartCursor { part, cursor, after: None })
            }
            (true, None, None) => None,
        }
    });
    let json = serde_json::to_vec(&places.collect::<Vec<_>>()).ok();
    json.filter(|_| readings.iter().any(is_running)).map(|json| URL_SAFE_NO_PAD.encode(json))
}

impl<T: Paged> Reading<T> {
    fn is_at_end(&self) -> bool {
        self.silent.is_some() || (self.is_read && self.next.is_none())
    }

    /// Reads the next page of this part.
    async fn fill(
        &mut self,
        size: usize,
        several: bool,
        keep: impl Fn(&T) -> bool,
    ) -> Result<(), Error> {
        let listing =
            (self.source.list)(&self.source.client).of_page(size).starting_at(self.next.clone());
        let (items, next) = match tokio::time::timeout(ANSWER, listing.page_and_cursor()).await {
            Ok(Ok(page)) => page,
            // A service without subscriptions need not serve this list.
            Ok(Err(error)) if error.is_not_found() && several => (Vec::new(), None),
            Ok(Err(error)) if error.is_unavailable() => {
                let service = self.source.client.service.clone();
                self.silent = Silent::of(&[(service, error)]).pop();
                return Ok(());
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let service = self.source.client.service.clone();
                let why = format!("{service} gave no answer within {ANSWER:?}");
                let advice = Some(format!("check {service}'s /readyz and its log"));
                self.silent = Some(Silent { service, why, advice });
                return Ok(());
            }
        };
        if self.is_read {
            self.place.cursor = self.next.take();
            self.place.after.clone_from(&self.shown);
        }
        (self.is_read, self.next) = (true, next);
        let items = items.into_iter();
        let items = items.map(|it| (parse(it.at()).unwrap_or(OffsetDateTime::UNIX_EPOCH), it));
        self.items = items.collect();
        self.skip_shown();
        self.items.retain(|(_, it)| keep(it));
        Ok(())
    }

    /// Skips items that earlier pages have shown. If the last of them is gone, compares times
    /// instead.
    fn skip_shown(&mut self) {
        let Some((id, at)) = &self.shown else { return };
        if let Some(position) = self.items.iter().position(|(_, it)| it.id() == *id) {
            self.items.drain(..=position);
            self.shown = None;
            return;
        }
        let at = parse(at);
        while self.items.front().is_some_and(|(it, _)| Some(*it) > at) {
            self.items.pop_front();
        }
        if !self.items.is_empty() {
            self.shown = None;
        }
    }

    fn take(&mut self) -> Option<Of<T>> {
        let (_, item) = self.items.pop_front()?;
        self.place.after = Some((item.id(), item.at().to_owned()));
        Some(Of { service: self.source.client.service.clone(), item: item.into_known() })
    }
}
