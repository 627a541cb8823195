use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envelope::{Envelope, Event, TopicSpec};

use crate::handler::{Erased, Handler};

/// Which events of a subject count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Each, whenever it comes.
    EachOnce,
    /// Only one that is newer than all before it.
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

/// What happens to one type of event.
pub(crate) struct Route {
    pub(crate) mode: Mode,
    pub(crate) handler: Box<dyn Erased>,
    /// When a message was last processed, if one was since that was last asked.
    pub(crate) succeeded: LastSuccess,
}

/// A consumer group, the events that it handles, and how. A new name starts at the earliest message.
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
    /// By topic and type.
    routes: BTreeMap<(&'static str, &'static str), Arc<Route>>,
    owned: Vec<TopicSpec>,
    ignores_unknown: bool,
    /// Names that publishers have, and those under which their versions are counted.
    renamed: HashMap<&'static str, &'static str>,
}

impl Subscription {
    /// `name` is the consumer group, and the owner of its inbox rows.
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

    /// Handles every event of a type once, also one that comes late: for effects that each event has of its own. The
    /// topic has the name of the type.
    ///
    /// # Panics
    /// If the subscription handles that type from that topic already: one of the handlers would never be called. So do
    /// the three methods that follow.
    #[must_use]
    pub fn each_once<H: Handler>(self, handler: H) -> Self {
        self.each_once_from(H::Event::TYPE, handler)
    }

    /// Does the same for a topic of another name.
    #[must_use]
    pub fn each_once_from<H: Handler>(self, topic: &'static str, handler: H) -> Self {
        self.route(topic, Mode::EachOnce, handler)
    }

    /// Handles only events that are newer than those already applied to the same subject: for state that the latest
    /// event describes whole. Versions are compared over all event types of the subscription, for each source by itself.
    /// An event without a version is a dead letter. The topic has the name of the type.
    #[must_use]
    pub fn latest_wins<H: Handler>(self, handler: H) -> Self {
        self.latest_wins_from(H::Event::TYPE, handler)
    }

    /// Does the same for a topic of another name.
    #[must_use]
    pub fn latest_wins_from<H: Handler>(self, topic: &'static str, handler: H) -> Self {
        self.route(topic, Mode::LatestWins, handler)
    }

    /// Skips events of types without a handler. Without this they are dead letters, because on a topic of one type they
    /// are a mistake.
    #[must_use]
    pub fn ignore_unknown(mut self) -> Self {
        self.ignores_unknown = true;
        self
    }

    /// Owns a topic that it reads: it is created if it is missing. Other topics belong to their publishers and are
    /// waited for.
    #[must_use]
    pub fn owns(mut self, topic: TopicSpec) -> Self {
        self.owned.push(topic);
        self
    }

    /// Counts the versions of a publisher that was renamed on, instead of starting anew: events from `now` are counted with
    /// those that came from `before`.
    #[must_use]
    pub fn source_alias(mut self, before: &'static str, now: &'static str) -> Self {
        // Under the old name, because what was applied is stored under it.
        self.renamed.insert(now, before);
        self
    }

    /// Starts the same handlers from the earliest message again: with a group (`<name>.<generation>`) and inbox rows of
    /// its own.
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

    /// Returns the event types that it handles, each with the topic that it reads them from, without the prefix.
    pub fn handles(&self) -> BTreeSet<(&'static str, &'static str)> {
        self.routes.keys().copied().collect()
    }

    pub(crate) fn owned(&self) -> &[TopicSpec] {
        &self.owned
    }

    /// What happens to an event of that type on that topic.
    pub(crate) fn route_on(&self, topic: &str, event_type: &str) -> Option<&Arc<Route>> {
        let found = self.routes.iter().find(|((on, of), _)| *on == topic && *of == event_type);
        found.map(|(_, route)| route)
    }

    /// What happens to an event of that type, whichever topic it is from.
    pub(crate) fn route_of(&self, event_type: &str) -> Option<&Arc<Route>> {
        let found = self.routes.iter().find(|((_, of), _)| *of == event_type);
        found.map(|(_, route)| route)
    }

    /// The topics that events of a type are read from, without the prefix.
    pub(crate) fn topics_of(&self, event_type: &str) -> Vec<&'static str> {
        let of_type = self.routes.keys().filter(|(_, of)| *of == event_type);
        of_type.map(|(topic, _)| *topic).collect()
    }

    /// Returns the types of which a message was processed since this was last asked, and when it last was.
    pub(crate) fn take_succeeded(&self) -> BTreeMap<&'static str, Instant> {
        let all = self.routes.iter();
        let succeeded = all.filter_map(|((_, it), route)| Some((*it, route.succeeded.take()?)));
        succeeded.collect()
    }

    /// Takes back that this was asked, since nothing came of the answer.
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

    /// The name under which an event's publisher counts its versions.
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
