//! A replay or rehearsal: its progress, the outcome of each letter, and for a rehearsal the form
//! that starts the replay.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use uuid::Uuid;

use super::outcomes::{OutcomeShare, outcomes};
use super::start::MOST_BY_ID;
use crate::client::{Answer, Replay, ReplayDetails, ReplayedLetter};
use crate::console::address::address;
use crate::console::failures::{Query, letter_path, one_service};
use crate::console::{Area, Console, Fields, Page, PageError, Session, filters};
use crate::dlq::{report, words};

const SIZE: usize = 50;

#[derive(Template)]
#[template(path = "replays/detail.html")]
struct Detail {
    page: Page,
    service: String,
    path: String,
    here: String,
    details: ReplayDetails,
    outcomes: Vec<OutcomeShare>,
    /// The filter with which the letters were selected, if the address contains it.
    query: Query,
    /// The outcome of the listed letters.
    outcome: String,
    letters: Vec<Answer<ReplayedLetter>>,
    is_first: bool,
    next: Option<String>,
}

impl Detail {
    fn is_live(&self) -> bool {
        !matches!(&*self.details.replay.status, "done" | "cancelled")
    }

    fn title(&self) -> &'static str {
        if self.details.replay.rehearsal { "Rehearsal" } else { "Replay" }
    }

    /// Returns the outcome in a sentence.
    fn summary(&self) -> String {
        let replay = &self.details.replay;
        match &*replay.status {
            "queued" => format!("It {}.", words::queued(&replay.group)),
            "running" => self.settled(),
            _ => report::summary(replay),
        }
    }

    fn settled(&self) -> String {
        let Replay { outcomes, selected, .. } = &self.details.replay;
        format!("{} of {selected} letters are settled.", outcomes.settled())
    }

    /// Returns whether the rehearsed letters can be replayed from this page.
    fn can_start(&self) -> bool {
        let replay = &self.details.replay;
        replay.rehearsal && replay.status == "done" && replay.selected > 0
    }

    /// Returns the number of letters that would end well.
    fn well(&self) -> u64 {
        let outcomes = &self.details.replay.outcomes;
        outcomes.settled() - outcomes.failed - outcomes.held
    }

    /// Returns whether the form offers to replay only those that would end well.
    fn has_choice(&self) -> bool {
        let well = self.well();
        well > 0 && well < self.details.replay.selected && well <= MOST_BY_ID
    }

    fn words(&self, it: &ReplayedLetter) -> String {
        words::outcome(it.outcome.as_deref(), it.reason.as_deref(), self.details.replay.rehearsal)
    }

    fn letter(&self, it: &ReplayedLetter) -> String {
        letter_path(&self.service, it.id)
    }

    /// Returns the address of the letters with an outcome.
    fn of(&self, outcome: &str) -> String {
        at(&self.path, &self.query, outcome, None)
    }

    /// Returns the address of the letters that failed again.
    fn dead_again(&self) -> String {
        let group = self.details.replay.group.clone();
        Query { group, ..Query::default() }.address()
    }
}

fn at(path: &str, query: &Query, outcome: &str, cursor: Option<&str>) -> String {
    let mut pairs = query.filter_pairs();
    if !outcome.is_empty() {
        pairs.push(("outcome", outcome));
    }
    pairs.extend(cursor.map(|cursor| ("cursor", cursor)));
    address(path, &pairs)
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
    fields: Fields,
) -> Result<Response, PageError> {
    let page = console.page("Replay", Area::Failures, &session);
    let client = one_service(&console.services(&session), &service)?;
    let (outcome, cursor) = (fields.one("outcome"), fields.one("cursor"));
    let letters = client.replayed_letters(id, outcome).of_page(SIZE);
    let letters = letters.starting_at(cursor.map(ToOwned::to_owned));
    let (details, letters) = tokio::join!(client.replay(id), letters.page_and_cursor());
    let (details, (letters, next)) = (details?.into_known(), letters?);
    let path = super::path(&service, id);
    let query = Query { cursor: String::new(), view: String::new(), ..Query::read(&fields) };
    let outcome = outcome.unwrap_or_default().to_owned();
    let detail = Detail {
        page,
        service,
        here: at(&path, &query, &outcome, cursor),
        next: next.map(|next| at(&path, &query, &outcome, Some(&next))),
        outcomes: outcomes(&details.replay),
        details,
        query,
        outcome,
        letters,
        is_first: cursor.is_none(),
        path,
    };
    Ok(Html(detail.render()?).into_response())
}
