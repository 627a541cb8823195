//! Discards and restores letters, with undo.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use time::OffsetDateTime;

use super::chosen::{Chosen, chosen, is_all};
use super::query::Query;
use crate::client::{Client, Filter, Selection, Status};
use crate::console::fields::{Sent, is_local};
use crate::console::refusal::{explained, refused, why};
use crate::console::{Area, Console, Fields, Notice, Page, PageError, Session, Topic, filters};
use crate::dlq::{DISCARD, LetterChange, RESTORE};
use crate::error::Error;
use crate::moment;
use crate::plain::{count, plain};

/// Maximum number of letters to count, a page of the service at a time.
const COUNTED: usize = 10_000;
const PAGE: usize = 1_000;
const LETTERS: &str = "/failures?view=letters";

pub(super) async fn discard(
    State(console): State<Console>,
    session: Session,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    run(&console, &session, &fields, &DISCARD).await
}

pub(super) async fn restore(
    State(console): State<Console>,
    session: Session,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    run(&console, &session, &fields, &RESTORE).await
}

async fn run(
    console: &Console,
    session: &Session,
    fields: &Fields,
    change: &LetterChange,
) -> Result<Response, PageError> {
    match confirm_or_change(console, session, fields, change).await {
        Ok(Done::Changed(notice)) => Ok(notice.back(fields, LETTERS)),
        Ok(Done::Asks(confirm)) => Ok(Html(confirm.render()?).into_response()),
        Err(error) => Ok(refused(&error, fields, LETTERS)),
    }
}

/// Result of a request for a change.
enum Done<'a> {
    Changed(Notice),
    Asks(Box<Confirm<'a>>),
}

async fn confirm_or_change<'a>(
    console: &Console,
    session: &Session,
    fields: &'a Fields,
    change: &LetterChange,
) -> Result<Done<'a>, Error> {
    let all = chosen(&console.services(session), fields)?;
    if !fields.has("why") || (is_all(fields) && !fields.has("confirmed")) {
        let page = console.page(change.question, Area::Failures, session);
        return Ok(Done::Asks(Box::new(Confirm::new(page, fields, change, &all).await?)));
    }
    change_all(console, &all, change, fields).await.map(Done::Changed)
}

/// Changes the letters of all subscriptions, also if the change of one of them fails. The notice
/// names those that failed; its undo applies to the others.
async fn change_all(
    console: &Console,
    all: &[Chosen],
    change: &LetterChange,
    fields: &Fields,
) -> Result<Notice, Error> {
    let why = why(fields)?;
    let (mut messages, mut failures) = (Vec::new(), Vec::new());
    let (mut letters, mut undo) = (0, Some(Vec::new()));
    for it in all {
        match change_group(it, change, why).await {
            Ok(changed) => {
                console.live.signal(&[Topic::Failures, Topic::History]);
                let of = if all.len() > 1 { format!(" of {}", it.group) } else { String::new() };
                let changed_letters = count(changed.letters, "letter", "letters");
                messages.push(format!("{changed_letters}{of} {}.", change.done));
                letters += changed.letters;
                undo = undo.zip(changed.undo).map(|(all, more)| [all, more].concat());
            }
            Err(error) if all.len() == 1 => return Err(error),
            Err(error) => failures.push(format!("{}: {}", it.group, explained(&error))),
        }
    }
    let is_bad = !failures.is_empty();
    // The end of a long text is cut off, so the changes come before the failures.
    messages.append(&mut failures);
    let messages = messages.join("\n");
    let notice = if is_bad { Notice::bad(messages) } else { Notice::new(messages) };
    let Some(mut undo) = undo.filter(|_| letters > 0) else { return Ok(notice) };
    let why = format!("undo: {why}");
    undo.push(("why".to_owned(), why[..why.floor_char_boundary(MAX_WHY)].to_owned()));
    undo.extend(fields.one("back").map(|back| ("back".to_owned(), back.to_owned())));
    Ok(notice.undo(&format!("/failures/{}", change.undo), undo))
}

/// Result of a change of the letters of one subscription.
struct ChangedGroup {
    letters: u64,
    /// The fields of the form that undoes it. `None` if that would change other letters too.
    undo: Option<Vec<(String, String)>>,
}

async fn change_group(
    it: &Chosen,
    change: &LetterChange,
    why: &str,
) -> Result<ChangedGroup, Error> {
    let undo = undo_fields(it, change).await?;
    let Chosen { client, group, selection } = it;
    let letters = client.change_letters(change.act, group, selection, why).await?.letters;
    Ok(ChangedGroup { letters, undo: undo.filter(|_| has_changed_all(selection, letters)) })
}

/// Maximum length of a reason in bytes, as in the services.
const MAX_WHY: usize = 500;

/// Returns whether a change has changed every selected letter. Of the others, the undo would change
/// those that had been changed before.
fn has_changed_all(selection: &Selection, changed: u64) -> bool {
    match selection {
        Selection::Ids(ids) => ids.len() as u64 == changed,
        Selection::Filter(_) => true,
    }
}

/// Returns the fields of the form that undoes a change. Returns `None` if the undo of a change by a
/// filter would change other letters too.
async fn undo_fields(
    it: &Chosen,
    change: &LetterChange,
) -> Result<Option<Vec<(String, String)>>, Error> {
    let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if let Some(checked) = it.checked() {
        return Ok(Some(vec![owned("letter", &checked)]));
    }
    let Some(filter) = it.filter() else { return Ok(None) };
    // Letters that already have a status to which the change leads, regardless of the filter's
    // status.
    let changed_already = Filter { status: None, ..filter.clone() };
    if Found::by(&it.client, &it.group, &changed_already, change.to, 1).await?.letters > 0 {
        return Ok(None);
    }
    let mut filter = filter.clone();
    filter.status = (change.to == DISCARD.to).then_some(Status::Discarded);
    let mut fields =
        vec![owned("scope", "all"), owned("confirmed", "yes"), owned("group", &it.group)];
    fields.extend(filter.query().iter().map(|(name, value)| owned(name, value)));
    Ok(Some(fields))
}

/// Letters that match a filter and have one of some statuses.
#[derive(Default)]
struct Found {
    letters: usize,
    /// When the newest of them died.
    newest: Option<OffsetDateTime>,
}

impl Found {
    /// Counts the letters of a group, newest first, up to `most`.
    async fn by(
        client: &Client,
        group: &str,
        filter: &Filter,
        statuses: &[Status],
        most: usize,
    ) -> Result<Self, Error> {
        let chosen = |status: &&Status| filter.status.is_none_or(|it| it == **status);
        let mut found = Self::default();
        for status in statuses.iter().filter(chosen) {
            let filter = Filter { status: Some(*status), ..filter.clone() };
            let mut cursor = None;
            // The first page of each status has its newest letter.
            loop {
                let letters = client.letters(Some(group), &filter).of_page(most.min(PAGE));
                let (page, next) = letters.starting_at(cursor).page_and_cursor().await?;
                let died = page.iter().filter_map(|it| moment::parse(&it.died_at));
                found.newest = found.newest.max(died.max());
                found.letters += page.len();
                cursor = next;
                if cursor.is_none() || found.letters >= most {
                    break;
                }
            }
        }
        Ok(found)
    }
}

/// The page that asks for the reason, and for confirmation before all matching letters are changed.
#[derive(Template)]
#[template(path = "failures/confirm.html")]
struct Confirm<'a> {
    page: Page,
    title: &'static str,
    letters: String,
    is_none: bool,
    act: &'static str,
    /// The filter, if all matching letters are changed.
    query: Option<Query>,
    /// The selected letters.
    checked: Vec<String>,
    back: &'a str,
}

impl<'a> Confirm<'a> {
    async fn new(
        page: Page,
        fields: &'a Fields,
        change: &LetterChange,
        all: &[Chosen],
    ) -> Result<Self, Error> {
        let (mut found, mut newest) = (0, None);
        for Chosen { client, group, selection } in all {
            match selection {
                Selection::Ids(ids) => found += ids.len(),
                Selection::Filter(filter) => {
                    let matching = Found::by(client, group, filter, change.from, COUNTED).await?;
                    found += matching.letters;
                    newest = newest.max(matching.newest);
                }
            }
        }
        let letters = count(found as u64, "dead letter", "dead letters");
        let letters = if found < COUNTED { letters } else { format!("at least {letters}") };
        let groups: Vec<_> = all.iter().map(|it| plain(&it.group)).collect();
        let query = is_all(fields).then(|| Query::read(fields).shown(newest)).transpose()?;
        Ok(Self {
            page,
            title: change.question,
            letters: format!("{letters} of {}", groups.join(", ")),
            is_none: found == 0,
            act: change.act,
            query,
            checked: all.iter().filter_map(Chosen::checked).collect(),
            back: fields.one("back").filter(|path| is_local(path)).unwrap_or(LETTERS),
        })
    }
}
