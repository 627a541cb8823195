//! Groups steps and rows into the entries that they belong to.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::Asked;
use super::entry::{Content, Delivery, Entry, Event, Job, OpenRow, Period, Recorded, Replay};
use super::time::Timestamp;
use crate::client::{Answer, InboxRow, Open, Step};

/// Key of an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Event(String),
    /// Event, or its offset in Kafka, and group.
    Delivery(String, String),
    Letter(String, String),
    /// Replay, and event or letter.
    Replay(String, String),
    /// Service and id.
    Job(String, String),
}

/// The entries found so far.
#[derive(Default)]
pub(crate) struct Sorting {
    pub(crate) entries: Vec<Entry>,
    keys: BTreeMap<Key, usize>,
    /// The event of each dead letter.
    letters: BTreeMap<String, String>,
}

/// Sorts the responses of all services. A step that occurs in several responses counts once; of a
/// row the last version counts.
pub(crate) fn sort(services: &[Asked], ahead: &[i64]) -> Sorting {
    let mut sorting = Sorting::default();
    for (service, ahead) in services.iter().zip(ahead) {
        let of = Of { service: &service.service, ahead: *ahead };
        let mut seen = BTreeSet::new();
        let open = service.parts.iter().flat_map(|it| &it.open);
        for letter in open.clone().filter(|it| it.kind == "dead letter") {
            if let (Some(letter), Some(event)) = (&letter.letter_id, &letter.event_id) {
                sorting.letters.insert(letter.clone(), event.clone());
            }
        }
        for step in service.parts.iter().flat_map(|it| &it.steps) {
            if seen.insert(step.json.to_string()) {
                sorting.step(&of, step.clone());
            }
        }
        for row in open {
            if seen.insert(row.json.to_string()) {
                sorting.row(&of, row.clone());
            }
        }
        for row in service.parts.iter().flat_map(|it| &it.inbox) {
            sorting.inbox(&of, row.clone());
        }
    }
    for entry in &mut sorting.entries {
        in_order(&mut entry.content);
    }
    sorting
}

/// The service of a response, and how far its clock is ahead.
struct Of<'a> {
    service: &'a str,
    ahead: i64,
}

impl Of<'_> {
    fn at(&self, time: Option<&String>) -> Option<Timestamp> {
        Some(Timestamp::parse(time?)?.plus(self.ahead.saturating_neg()))
    }

    fn recorded(&self, step: Answer<Step>) -> Recorded {
        let took = i64::try_from(step.duration_us.unwrap_or_default()).unwrap_or(i64::MAX);
        let start = self.at(step.started_at.as_ref());
        let period = start.map(|start| Period { start, end: start.plus(took) });
        Recorded { step, period }
    }

    fn held(&self, open: Answer<Open>) -> OpenRow {
        OpenRow { since: self.at(open.since.as_ref()), open }
    }
}

impl Sorting {
    /// Returns the entry of the event with that id. Returns `None` if its publication is not
    /// recorded.
    pub(crate) fn event(&self, id: &str) -> Option<usize> {
        self.keys.get(&Key::Event(id.to_owned())).copied()
    }

    /// Returns the entry of an event's delivery to a group.
    pub(crate) fn delivery(&self, event: &str, group: &str) -> Option<usize> {
        self.keys.get(&Key::Delivery(event.to_owned(), group.to_owned())).copied()
    }

    /// Returns the entry of a service's dead letter, and its event if that is known.
    pub(crate) fn letter(&self, service: Option<&str>, id: &str) -> (Option<usize>, Option<&str>) {
        let key = Key::Letter(service.unwrap_or_default().to_owned(), id.to_owned());
        (self.keys.get(&key).copied(), self.letters.get(id).map(|it| &**it))
    }

    pub(crate) fn push(&mut self, service: Option<&str>, content: Content) -> usize {
        self.entries.push(Entry { service: service.map(ToOwned::to_owned), content, parent: None });
        self.entries.len() - 1
    }

    /// Returns the event with that id, and adds it if there is none.
    pub(crate) fn event_of(&mut self, id: &str, service: Option<&str>) -> &mut Event {
        let event = || Content::Event(Event { id: id.to_owned(), ..Event::default() });
        match self.entry(Key::Event(id.to_owned()), service, event) {
            Content::Event(event) => event,
            _ => unreachable!("the key is that of an event"),
        }
    }

    /// Returns the delivery of an event to a group, and adds it if there is none.
    pub(crate) fn delivery_of(&mut self, service: &str, event: &str, group: &str) -> &mut Delivery {
        let key = Key::Delivery(event.to_owned(), group.to_owned());
        let delivery =
            || Content::Delivery(Delivery { group: group.to_owned(), ..Delivery::default() });
        match self.entry(key, Some(service), delivery) {
            Content::Delivery(delivery) => delivery,
            _ => unreachable!("the key is that of a delivery"),
        }
    }

    fn entry(
        &mut self,
        key: Key,
        service: Option<&str>,
        new: impl FnOnce() -> Content,
    ) -> &mut Content {
        let at = self.keys.get(&key).copied().unwrap_or_else(|| {
            let at = self.push(service, new());
            self.keys.insert(key, at);
            at
        });
        &mut self.entries[at].content
    }

    fn step(&mut self, of: &Of<'_>, step: Answer<Step>) {
        let recorded = of.recorded(step);
        let step = (*recorded.step).clone();
        match (&*step.kind, &step.event_id) {
            ("outbox wait" | "publish", Some(id)) => {
                let event = self.event_of(id, Some(of.service));
                event.kind = event.kind.take().or(step.event_type);
                let is_wait = step.kind == "outbox wait";
                (if is_wait { &mut event.waits } else { &mut event.published }).push(recorded);
            }
            ("process" | "replay" | "rehearsal", event) if step.replay_id.is_some() => {
                let replay = step.replay_id.clone().unwrap_or_default();
                let event = event.clone().or(step.letter_id).unwrap_or_default();
                self.replay_of(of, &replay, &event).steps.push(recorded);
            }
            ("process", event) => {
                let place = || format!("{:?} {:?} {:?}", step.topic, step.partition, step.offset);
                let (key, group) =
                    (event.clone().unwrap_or_else(place), step.group.unwrap_or_default());
                let delivery = self.delivery_of(of.service, &key, &group);
                delivery.event_id.clone_from(event);
                delivery.event_type = delivery.event_type.take().or(step.event_type);
                delivery.steps.push(recorded);
            }
            ("job", _) if step.job_id.is_some() => {
                let job = self.job_of(of, &step.job_id.unwrap_or_default());
                job.kind = job.kind.take().or(step.job_kind);
                job.runs.push(recorded);
            }
            _ => _ = self.push(Some(of.service), Content::Step(recorded)),
        }
    }

    fn row(&mut self, of: &Of<'_>, row: Answer<Open>) {
        let held = of.held(row);
        let row = (*held.open).clone();
        match (&*row.kind, row.event_id, row.group) {
            ("outbox", Some(id), _) => {
                let event = self.event_of(&id, Some(of.service));
                event.kind = event.kind.take().or(row.event_type);
                event.outbox = Some(held);
            }
            ("parked", Some(event), Some(group)) => {
                let delivery = self.delivery_of(of.service, &event, &group);
                delivery.event_id = Some(event);
                delivery.parked = Some(held);
            }
            ("dead letter", event, group) => {
                if let (Some(event), Some(group)) = (event, group) {
                    let delivery = self.delivery_of(of.service, &event, &group);
                    delivery.event_id = Some(event);
                    delivery.event_type = delivery.event_type.take().or(row.event_type);
                    delivery.has_letter = true;
                }
                let key = Key::Letter(of.service.to_owned(), row.letter_id.unwrap_or_default());
                let letter = self.entry(key, Some(of.service), || Content::Letter(held.clone()));
                *letter = Content::Letter(held);
            }
            ("job", _, _) if row.job_id.is_some() => {
                let job = self.job_of(of, &row.job_id.unwrap_or_default());
                job.kind = job.kind.take().or(row.job_kind);
                job.row = Some(held);
            }
            ("replay", event, _) if row.replay_id.is_some() => {
                let letter = row.letter_id.unwrap_or_default();
                let event = event.or_else(|| self.letters.get(&letter).cloned()).unwrap_or(letter);
                self.replay_of(of, &row.replay_id.unwrap_or_default(), &event).row = Some(held);
            }
            _ => _ = self.push(Some(of.service), Content::Open(held)),
        }
    }

    fn replay_of(&mut self, of: &Of<'_>, replay: &str, event: &str) -> &mut Replay {
        let key = Key::Replay(replay.to_owned(), event.to_owned());
        match self.entry(key, Some(of.service), || Content::Replay(Replay::default())) {
            Content::Replay(replay) => replay,
            _ => unreachable!("the key is that of a replay"),
        }
    }

    fn job_of(&mut self, of: &Of<'_>, id: &str) -> &mut Job {
        let key = Key::Job(of.service.to_owned(), id.to_owned());
        let job = || Content::Job(Job { id: id.to_owned(), ..Job::default() });
        match self.entry(key, Some(of.service), job) {
            Content::Job(job) => job,
            _ => unreachable!("the key is that of a job"),
        }
    }

    fn inbox(&mut self, of: &Of<'_>, row: InboxRow) {
        let delivery = self.delivery_of(of.service, &row.event_id, &row.group);
        delivery.event_id = Some(row.event_id.clone());
        delivery.received = of.at(row.received_at.as_ref());
        delivery.inbox = Some(row);
    }
}

/// Sorts the steps of an entry by time.
fn in_order(content: &mut Content) {
    let sort = |steps: &mut Vec<Recorded>| steps.sort_by_key(|it| it.period.map(|it| it.start));
    match content {
        Content::Event(event) => {
            sort(&mut event.waits);
            sort(&mut event.published);
        }
        Content::Delivery(delivery) => sort(&mut delivery.steps),
        Content::Replay(replay) => sort(&mut replay.steps),
        Content::Job(job) => sort(&mut job.runs),
        Content::Step(_) | Content::Letter(_) | Content::Open(_) => {}
    }
}
