use std::collections::HashMap;
use std::sync::Arc;

use events::Event;

use crate::handler::{Erased, Handler};

/// Which events of a subject count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Each, whenever it comes.
    EachOnce,
    /// Only one that is newer than all before it.
    LatestWins,
}

pub(crate) struct Route {
    pub(crate) mode: Mode,
    pub(crate) handler: Arc<dyn Erased>,
}

/// What a group of consumers hears, and what it does about it. A new name starts at the earliest message.
pub struct Subscription {
    name: &'static str,
    generation: u32,
    routes: HashMap<&'static str, Route>,
}

impl Subscription {
    /// `name` is the consumer group, and the owner of its inbox rows.
    pub fn new(name: &'static str) -> Self {
        Self { name, generation: 1, routes: HashMap::new() }
    }

    /// Every event once, also one that comes late: for effects that each event has of its own.
    #[must_use]
    pub fn each_once<H: Handler>(self, handler: H) -> Self {
        self.route(Mode::EachOnce, handler)
    }

    /// Only events newer than those already applied to the same order: for state that the latest event
    /// describes whole. Versions are compared over all event types of the subscription.
    #[must_use]
    pub fn latest_wins<H: Handler>(self, handler: H) -> Self {
        self.route(Mode::LatestWins, handler)
    }

    /// A new beginning for the same handlers: a group (`<name>.<generation>`) and inbox rows of its own.
    #[must_use]
    pub fn generation(mut self, generation: u32) -> Self {
        self.generation = generation;
        self
    }

    /// # Panics
    /// If the type has a handler already: one of them would never be called.
    fn route<H: Handler>(mut self, mode: Mode, handler: H) -> Self {
        let route = Route { mode, handler: Arc::new(handler) };
        let before = self.routes.insert(H::Event::TYPE, route);
        assert!(before.is_none(), "{} has two handlers for {}", self.name, H::Event::TYPE);
        self
    }

    /// The consumer group, without the prefix.
    pub fn group(&self) -> String {
        match self.generation {
            1 => self.name.to_owned(),
            generation => format!("{}.{generation}", self.name),
        }
    }

    /// The topics it hears, without the prefix.
    pub fn event_types(&self) -> impl Iterator<Item = &'static str> {
        self.routes.keys().copied()
    }

    pub(crate) fn route_of(&self, event_type: &str) -> Option<&Route> {
        self.routes.get(event_type)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types: Vec<_> = self.event_types().collect();
        f.debug_struct("Subscription").field("group", &self.group()).field("types", &types).finish()
    }
}
