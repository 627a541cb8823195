//! Lists that are read page by page, from one service or from several concurrently.

use std::collections::VecDeque;

use futures::future::join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Answer, Client};
use crate::error::Error;
use crate::moment::parse;

/// Maximum page size of the services.
const PAGE: usize = 1000;

/// An item of a list.
pub(crate) trait Listed: DeserializeOwned {
    /// Name of the member with the items.
    const PLURAL: &'static str;

    /// Whether each item gets a member `service` with the name of its service.
    const NAMES_SERVICE: bool = false;

    /// Returns the time by which the list is sorted (RFC 3339).
    fn at(&self) -> &str;
}

/// The next page of a list.
enum Next {
    First,
    At(String),
    End,
}

/// A list of one service.
pub(crate) struct Listing<T> {
    client: Client,
    path: String,
    query: Vec<(&'static str, String)>,
    page: usize,
    /// Whether the API has no limit for this list, because it is always short.
    is_whole: bool,
    next: Next,
    read: VecDeque<Answer<T>>,
}

#[derive(Deserialize)]
struct Page {
    next_cursor: Option<String>,
    #[serde(flatten)]
    members: Map<String, Value>,
}

/// Adds the name of its service to an item.
pub(super) fn name_service(item: &mut Value, service: &str) {
    if let Value::Object(members) = item {
        members.insert("service".to_owned(), service.into());
    }
}

impl<T: Listed> Listing<T> {
    pub(super) fn new(client: Client, path: String, query: Vec<(&'static str, String)>) -> Self {
        Self {
            client,
            path,
            query,
            page: PAGE,
            is_whole: false,
            next: Next::First,
            read: VecDeque::new(),
        }
    }

    /// Requests the list without a limit.
    pub(super) fn unpaged(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// Requests pages of that size.
    pub(crate) fn of_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Reads one page. Returns its items, and whether it is the last one.
    pub(crate) async fn page(mut self) -> Result<(Vec<Answer<T>>, bool), Error> {
        self.fill().await?;
        Ok((self.read.into(), matches!(self.next, Next::End)))
    }

    /// Begins at a cursor that [`Self::page_and_cursor`] returned.
    pub(crate) fn starting_at(self, cursor: Option<String>) -> Self {
        Self { next: cursor.map_or(Next::First, Next::At), ..self }
    }

    /// Reads one page. Returns its items, and the cursor of the next page unless it is the last
    /// one.
    pub(crate) async fn page_and_cursor(
        mut self,
    ) -> Result<(Vec<Answer<T>>, Option<String>), Error> {
        self.fill().await?;
        let cursor = match self.next {
            Next::At(cursor) => Some(cursor),
            Next::First | Next::End => None,
        };
        Ok((self.read.into(), cursor))
    }

    /// Reads a page if no item is left. Returns `false` at the end of the list.
    async fn fill(&mut self) -> Result<bool, Error> {
        while self.read.is_empty() {
            let mut query = self.query.clone();
            if !self.is_whole {
                query.push(("limit", self.page.to_string()));
            }
            match &self.next {
                Next::First => {}
                Next::At(cursor) => query.push(("cursor", cursor.clone())),
                Next::End => return Ok(false),
            }
            let path: Vec<_> = self.path.split('/').collect();
            let mut page: Page = self.client.get(&path, &query).await?;
            let mut items = page.members.remove(T::PLURAL).unwrap_or_default();
            if T::NAMES_SERVICE {
                for item in items.as_array_mut().into_iter().flatten() {
                    name_service(item, &self.client.service);
                }
            }
            let items = VecDeque::<Answer<T>>::deserialize(items);
            self.read = items.map_err(|error| Error::Answer {
                service: self.client.service.clone(),
                request: format!("GET /{}", self.path),
                status: 200,
                answer: error.to_string(),
            })?;
            self.next = page.next_cursor.map_or(Next::End, Next::At);
        }
        Ok(true)
    }

    /// Returns `true` if there are no more items.
    fn is_at_end(&self) -> bool {
        self.read.is_empty() && matches!(self.next, Next::End)
    }
}

/// The order of several lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The newest item of all lists first.
    Newest,
    /// One list after the other.
    AsListed,
}

/// Several lists merged into one. Holds one page of each.
pub(crate) struct Merged<T> {
    listings: Vec<Listing<T>>,
    order: Order,
    /// Whether there are several services, of which some may not have this list.
    several: bool,
    /// Services that did not answer, each with its error.
    pub(crate) unavailable: Vec<(String, Error)>,
}

impl<T: Listed> Merged<T> {
    /// Merges lists. At most `shown` items are needed.
    pub(crate) fn new(mut listings: Vec<Listing<T>>, shown: usize, order: Order) -> Self {
        for listing in &mut listings {
            listing.page = shown.clamp(1, PAGE);
        }
        let of_first = |it: &Listing<T>| it.client == listings[0].client;
        let several = !listings.iter().all(of_first);
        Self { listings, order, several, unavailable: Vec::new() }
    }

    /// Returns the next item, or `None` at the end.
    ///
    /// An unavailable service is recorded, and the others are read; with several services, one
    /// without such a list is skipped. Every other error is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer<T>>, Error> {
        if self.listings.iter().any(|it| it.read.is_empty()) {
            self.fill().await?;
        }
        let newest = self.listings.iter_mut().reduce(|newest, listing| {
            let at = |listing: &Listing<T>| listing.read.front().and_then(|it| parse(it.at()));
            if self.order == Order::Newest && at(listing) > at(newest) { listing } else { newest }
        });
        Ok(newest.and_then(|listing| listing.read.pop_front()))
    }

    /// Reads a page of each list of which no item is left, concurrently, so that services that hang
    /// delay the list by one time limit in all. Removes the lists that have ended.
    async fn fill(&mut self) -> Result<(), Error> {
        let filled = join_all(self.listings.iter_mut().map(Listing::fill)).await;
        for (listing, filled) in std::mem::take(&mut self.listings).into_iter().zip(filled) {
            match filled {
                Ok(true) => self.listings.push(listing),
                Ok(false) => {}
                // A service without subscriptions need not serve this list.
                Err(error) if error.is_not_found() && self.several => {}
                Err(error) if error.is_unavailable() => {
                    let service = listing.client.service;
                    if self.unavailable.iter().all(|(known, _)| *known != service) {
                        self.unavailable.push((service, error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let unavailable = &self.unavailable;
        self.listings.retain(|it| unavailable.iter().all(|(name, _)| *name != it.client.service));
        Ok(())
    }

    /// Counts the items that are left, up to `most`.
    pub(crate) async fn count(&mut self, most: u64) -> Result<u64, Error> {
        for listing in &mut self.listings {
            listing.page = PAGE;
        }
        let mut counted = 0;
        while counted < most && self.next().await?.is_some() {
            counted += 1;
        }
        Ok(counted)
    }

    /// Returns the cursor after the returned items, if it is known: for a single list, at the end
    /// of a page.
    pub(crate) fn cursor(&self) -> Option<&str> {
        match &self.listings[..] {
            [Listing { next: Next::At(cursor), read, .. }] if read.is_empty() => Some(cursor),
            _ => None,
        }
    }

    /// Returns `true` if there are no more items.
    pub(crate) fn is_at_end(&self) -> bool {
        self.listings.iter().all(Listing::is_at_end)
    }

    /// Returns the services that have more items.
    pub(crate) fn services_left(&self) -> impl Iterator<Item = &str> {
        self.listings.iter().filter(|it| !it.is_at_end()).map(|it| &*it.client.service)
    }
}
