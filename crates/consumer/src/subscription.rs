use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envelope::{Envelope, Event, TopicSpec};

use crate::handler::{Erased, Handler};

/// Selection of the events of a subject that are applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Every event, in any order.
    EachOnce,
    /// Only events newer than all applied ones.
    LatestWins,
}

/// When a message of a type was last processed.
#[derive(Default)]
pub(crate) struct LastSuccess(Mutex<Option<Instant>>);

impl LastSuccess {
    pub(crate) fn note(&self, at: Instant) {
        let mut last = self.lock();
        *last = (*last).max(Some(at));
    }

    fn take(&self) -> Option<Instant> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handler of one event type, and its mode.
pub(crate) struct Route {
    pub(crate) mode: Mode,
    pub(crate) handler: Box<dyn Erased>,
    /// When a message was last processed, if that was after the last query.
    pub(crate) succeeded: LastSuccess,
}

/// A consumer group with its event handlers. A new name starts at the earliest message.
///
/// ```no_run
/// # use consumer::{Handler, Subscription};
/// # fn of(created: impl Handler, shipped: impl Handler, returned: impl Handler) -> Subscription {
/// Subscription::new("stock")
///     .latest_wins(created) // from the topic that has the name of its type
///     .latest_wins(shipped)
///     .each_once_from("parcels", returned) // from a topic that carries several types
///     .ignore_unknown()
/// # }
/// ```
pub struct Subscription {
    name: &'static str,
    generation: u32,
    /// Routes by topic and type.
    routes: BTreeMap<(&'static str, &'static str), Arc<Route>>,
    owned: Vec<TopicSpec>,
    ignores_unknown: bool,
    /// Current sources of renamed publishers, and the sources under which their versions are
    /// stored.
    renamed: HashMap<&'static str, &'static str>,
}

impl Subscription {
    /// Creates a subscription. `name` is the consumer group and the owner of the inbox rows.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            generation: 1,
            routes: BTreeMap::new(),
            owned: Vec::new(),
            ignores_unknown: false,
            renamed: HashMap::new(),
        }
    }

    /// Handles every event of a type once, also late ones, for effects that are independent of
    /// other events. The topic has the name of the type.
    ///
    /// # Panics
    /// Panics if the subscription already handles that type from that topic, because one of the
    /// handlers would never be called. The next three methods do the same.
    #[must_use]
    pub fn each_once<H: Handler>(self, handler: H) -> Self {
        self.each_once_from(H::Event::TYPE, handler)
    }

    /// Does the same for a topic of another name.
    #[must_use]
    pub fn each_once_from<H: Handler>(self, topic: &'static str, handler: H) -> Self {
        self.route(topic, Mode::EachOnce, handler)
    }

    /// Handles only events that are newer than those applied to the same subject, for state that
    /// the latest event describes completely. Versions are compared across all event types of the
    /// subscription, separately for each source. An event without a version is dead-lettered. The
    /// topic has the name of the type.
    #[must_use]
    pub fn latest_wins<H: Handler>(self, handler: H) -> Self {
        self.latest_wins_from(H::Event::TYPE, handler)
    }

    /// Does the same for a topic of another name.
    #[must_use]
    pub fn latest_wins_from<H: Handler>(self, topic: &'static str, handler: H) -> Self {
        self.route(topic, Mode::LatestWins, handler)
    }

    /// Skips events of types without a handler. By default they are dead-lettered, because on a
    /// topic of one type they are a mistake.
    #[must_use]
    pub fn ignore_unknown(mut self) -> Self {
        self.ignores_unknown = true;
        self
    }

    /// Creates the topic if it is missing. The consumer waits for other topics, which belong to
    /// their publishers.
    #[must_use]
    pub fn owns(mut self, topic: TopicSpec) -> Self {
        self.owned.push(topic);
        self
    }

    /// Continues the versions of a renamed publisher: events from the source `now` are compared
    /// with those from `before`.
    #[must_use]
    pub fn source_alias(mut self, before: &'static str, now: &'static str) -> Self {
        // Under the old name, because the applied versions are stored under it.
        self.renamed.insert(now, before);
        self
    }

    /// Runs the same handlers again from the earliest message, with a separate group
    /// (`<name>.<generation>`) and separate inbox rows.
    #[must_use]
    pub fn generation(mut self, generation: u32) -> Self {
        self.generation = generation;
        self
    }

    fn route<H: Handler>(mut self, topic: &'static str, mode: Mode, handler: H) -> Self {
        let route =
            Arc::new(Route { mode, handler: Box::new(handler), succeeded: LastSuccess::default() });
        let event_type = H::Event::TYPE;
        let before = self.routes.insert((topic, event_type), route);
        assert!(before.is_none(), "{} has two handlers for {event_type}", self.name);
        self
    }

    /// Returns the consumer group, without the prefix.
    pub fn group(&self) -> String {
        match self.generation {
            1 => self.name.to_owned(),
            generation => format!("{}.{generation}", self.name),
        }
    }

    /// Returns the event types that it handles.
    pub fn event_types(&self) -> BTreeSet<&'static str> {
        self.routes.keys().map(|(_, event_type)| *event_type).collect()
    }

    /// Returns the topics that it reads, without the prefix.
    pub fn topics(&self) -> BTreeSet<&'static str> {
        self.routes.keys().map(|(topic, _)| *topic).collect()
    }

    /// Returns the event types that it handles, each with the topic that it reads them from,
    /// without the prefix.
    pub fn handles(&self) -> BTreeSet<(&'static str, &'static str)> {
        self.routes.keys().copied().collect()
    }

    pub(crate) fn owned(&self) -> &[TopicSpec] {
        &self.owned
    }

    /// Returns the route of an event type on a topic.
    pub(crate) fn route_on(&self, topic: &str, event_type: &str) -> Option<&Arc<Route>> {
        let found = self.routes.iter().find(|((on, of), _)| *on == topic && *of == event_type);
        found.map(|(_, route)| route)
    }

    /// Returns the route of an event type on any topic.
    pub(crate) fn route_of(&self, event_type: &str) -> Option<&Arc<Route>> {
        let found = self.routes.iter().find(|((_, of), _)| *of == event_type);
        found.map(|(_, route)| route)
    }

    /// Returns the topics of an event type, without the prefix.
    pub(crate) fn topics_of(&self, event_type: &str) -> Vec<&'static str> {
        let of_type = self.routes.keys().filter(|(_, of)| *of == event_type);
        of_type.map(|(topic, _)| *topic).collect()
    }

    /// Returns the event types with a success since the last call, and the time of the latest
    /// success.
    pub(crate) fn take_succeeded(&self) -> BTreeMap<&'static str, Instant> {
        let all = self.routes.iter();
        let succeeded = all.filter_map(|((_, it), route)| Some((*it, route.succeeded.take()?)));
        succeeded.collect()
    }

    /// Restores the result of `take_succeeded`, which could not be used.
    pub(crate) fn put_succeeded(&self, succeeded: &BTreeMap<&'static str, Instant>) {
        for ((_, event_type), route) in &self.routes {
            if let Some(at) = succeeded.get(event_type) {
                route.succeeded.note(*at);
            }
        }
    }

    pub(crate) fn ignores_unknown(&self) -> bool {
        self.ignores_unknown
    }

    /// Returns the source under which an event's versions are stored.
    pub(crate) fn counted_by<'a>(&'a self, envelope: &'a Envelope) -> &'a str {
        let source = envelope.source.as_str();
        self.renamed.get(source).copied().unwrap_or(source)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("group", &self.group())
            .field("routes", &self.routes.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
