//! Selects the jobs of a command and counts them before anything is changed.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::list::write_job;
use crate::client::{Client, Job, JobFilter, JobSelection, JobState, Merged, Order};
use crate::error::Error;
use crate::moment;
use crate::plain::{count, plain};
use crate::services::first_answer;

/// Maximum number of jobs to list one by one.
const FEW: usize = 5;
/// Maximum number of reasons to list.
const REASONS: usize = 10;
/// Maximum number of jobs to count, a page of the services at a time.
const COUNTED: u64 = 10_000;

/// The selected jobs of one service.
pub(crate) struct Part {
    pub(crate) client: Client,
    pub(crate) selection: JobSelection,
}

/// The selected jobs of all services.
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) parts: Vec<Part>,
    /// Services that did not answer.
    pub(crate) unavailable: Vec<(String, Error)>,
    /// When the newest of the jobs was enqueued, or failed. `None` without jobs, or with ids.
    pub(crate) until: Option<String>,
    /// `true` if there are more jobs than were counted.
    is_cut: bool,
    tally: Tally,
}

impl Chosen {
    /// Finds the jobs that match the filter and are in one of the states, unless the filter
    /// contains a state.
    ///
    /// Lists them twice. What is enqueued or fails meanwhile, or while the operator reads, is not
    /// part of what is agreed to. A listing is not in the order in which jobs fail, so only after
    /// a whole one is it known until when they did; the second one shows exactly those. If there
    /// are too many to list, the jobs until now are selected.
    pub(crate) async fn by_filter(
        clients: Vec<Client>,
        filter: &JobFilter,
        states: &[JobState],
    ) -> Result<Self, Error> {
        let began = OffsetDateTime::now_utc();
        let first = Self::listed(clients, filter, states).await?;
        let newest = first.tally.newest;
        let until = match &filter.until {
            Some(until) if first.is_cut => Some(until.clone()),
            None if first.is_cut => text(newest.max(Some(began))),
            _ => text(newest),
        };
        if until.is_none() {
            return Ok(first);
        }
        let filter = JobFilter { until, ..filter.clone() };
        let chosen = if first.is_cut { first } else { first.listed_again(&filter, states).await? };
        Ok(chosen.selecting(filter))
    }

    /// Lists the jobs of the services that have some once more, with another filter.
    async fn listed_again(self, filter: &JobFilter, states: &[JobState]) -> Result<Self, Error> {
        let clients = self.parts.into_iter().map(|it| it.client).collect();
        let again = Self::listed(clients, filter, states).await?;
        let unavailable = self.unavailable.into_iter().chain(again.unavailable).collect();
        Ok(Self { unavailable, ..again })
    }

    /// Selects the jobs by this filter, which has a time.
    fn selecting(mut self, filter: JobFilter) -> Self {
        for part in &mut self.parts {
            part.selection = JobSelection::Filter(filter.clone());
        }
        Self { until: filter.until, ..self }
    }

    async fn listed(
        clients: Vec<Client>,
        filter: &JobFilter,
        states: &[JobState],
    ) -> Result<Self, Error> {
        let states = filter.state.map_or(states.to_vec(), |state| vec![state]);
        let mut listings = Vec::new();
        for client in &clients {
            let of = |state| JobFilter { state: Some(state), ..filter.clone() };
            listings.extend(states.iter().map(|state| client.jobs(&of(*state))));
        }
        let mut jobs = Merged::new(listings, usize::MAX, Order::Newest);
        let (mut chosen, mut services) = (Self::default(), HashSet::new());
        while let Some(job) = jobs.next().await? {
            services.insert(job.service.clone());
            if chosen.tally.jobs == COUNTED {
                chosen.is_cut = true;
                services.extend(jobs.services_left().map(ToOwned::to_owned));
                break;
            }
            chosen.tally.add(&job);
        }
        chosen.unavailable = jobs.unavailable;
        for (service, _) in &chosen.unavailable {
            services.remove(service);
        }
        let found = clients.into_iter().filter(|it| services.contains(&it.service));
        let part = |client| Part { client, selection: JobSelection::Filter(filter.clone()) };
        chosen.parts = found.map(part).collect();
        Ok(chosen)
    }

    /// Finds each job. Fails if an id is unknown.
    pub(crate) async fn by_ids(clients: Vec<Client>, ids: &[Uuid]) -> Result<Self, Error> {
        let mut chosen = Self::default();
        let mut seen = HashSet::new();
        for id in ids.iter().copied().filter(|id| seen.insert(*id)) {
            let found = first_answer(clients.clone(), async |client| client.job(id).await).await;
            let (client, details) = found?;
            chosen.tally.add(&details.job);
            let part = chosen.parts.iter_mut().find(|part| part.client == client);
            if let Some(JobSelection::Ids(ids)) = part.map(|part| &mut part.selection) {
                ids.push(id);
            } else {
                let selection = JobSelection::Ids(vec![id]);
                chosen.parts.push(Part { client, selection });
            }
        }
        Ok(chosen)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns a title such as "12 jobs of notification, billing".
    pub(crate) fn title(&self) -> String {
        let services: Vec<_> = self.parts.iter().map(|it| plain(&it.client.service)).collect();
        let least = if self.is_cut { "at least " } else { "" };
        let jobs = count(self.tally.jobs, "job", "jobs");
        format!("{least}{jobs} of {}", services.join(", "))
    }

    /// Returns the number of jobs for each reason, or a few jobs one by one.
    pub(crate) fn reasons(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = self.tally.write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Writes the number of jobs for each reason, or a few jobs one by one.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "There are no such jobs.");
        }
        writeln!(out, "{}:\n", self.title())?;
        self.tally.write(out)
    }
}

fn text(at: Option<OffsetDateTime>) -> Option<String> {
    at?.format(&Rfc3339).ok()
}

/// Jobs counted by service, kind and the first line of their last error.
#[derive(Default)]
struct Tally {
    jobs: u64,
    reasons: BTreeMap<[String; 3], u64>,
    /// Jobs with further reasons.
    others: u64,
    few: Vec<Job>,
    /// When the newest job was enqueued, or failed.
    newest: Option<OffsetDateTime>,
}

impl Tally {
    fn add(&mut self, job: &Job) {
        /// Maximum number of different reasons. Errors may contain ids, so that each job has its
        /// own reason.
        const KEPT: usize = 1_000;
        self.jobs += 1;
        let times = [Some(&job.created_at), job.failed_at.as_ref()].into_iter().flatten();
        self.newest = self.newest.max(times.filter_map(|it| moment::parse(it)).max());
        if self.few.len() <= FEW {
            self.few.push(job.clone());
        }
        let error = job.last_error.as_deref().and_then(|it| it.lines().next());
        let error = error.unwrap_or("no attempt has failed");
        let reason = [&job.service, &job.kind, error].map(ToOwned::to_owned);
        if self.reasons.len() < KEPT || self.reasons.contains_key(&reason) {
            *self.reasons.entry(reason).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.few.len() <= FEW {
            return self.few.iter().try_for_each(|job| write_job(out, job));
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1));
        let shown = &reasons[..reasons.len().min(REASONS)];
        let width = shown.first().map_or(0, |(_, jobs)| jobs.to_string().len());
        for (reason, jobs) in shown {
            let [service, kind, error] = reason.each_ref().map(|it| plain(it));
            writeln!(out, "   {jobs:>width$}   {service}   {kind}   {error}")?;
        }
        let rest: u64 = reasons.iter().skip(REASONS).map(|(_, jobs)| **jobs).sum();
        if rest + self.others > 0 {
            writeln!(out, "   {:>width$}   for other reasons", rest + self.others)?;
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::job;
    use super::*;

    #[test]
    fn many_jobs_are_counted_by_reason_and_few_are_shown() {
        let mut tally = Tally::default();
        for number in 0..20 {
            let error =
                if number < 8 { "503\u{1b}\ncaused by: 1".into() } else { format!("{number}") };
            tally.add(&job(number, "deliver", &error));
            if number == 2 {
                let mut text = Vec::new();
                tally.write(&mut text).unwrap();
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text.matches("   error        503\\x1b").count(), 3, "{text}");
            }
        }
        let mut text = Vec::new();
        tally.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("   8   notification   deliver   503\\x1b\n   1   "), "{text}");
        assert!(text.ends_with("   3   for other reasons\n\n"), "{text}");
    }
}
