//! Lag of the groups, and subscriptions: their state, pause and resume.

mod row;
mod subscription_card;

pub(super) use row::LagRow;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, Response};
use axum::routing::{get, post};

use self::subscription_card::SubscriptionCard;
use super::failures::one_service;
use super::fields::Sent;
use super::pages::ANSWER;
use super::refusal::{refused, why};
use super::silent::Silent;
use super::{Area, Console, Fields, Notice, Page, PageError, Session, Topic, filters};
use crate::client::{Client, Merged, Order, Subscription};
use crate::error::Error;

const HERE: &str = "/lag";

pub(super) fn routes() -> Router<Console> {
    Router::new().route(HERE, get(show)).route("/lag/{service}/{group}/{act}", post(change))
}

#[derive(Template)]
#[template(path = "lag/index.html")]
struct LagPage {
    page: Page,
    /// `None` before the first measurement.
    measured: Option<Result<Vec<LagRow>, String>>,
    subscriptions: Vec<SubscriptionCard>,
    silent: Vec<Silent>,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("Lag and subscriptions", Area::Lag, &session);
    let (subscriptions, silent) = subscriptions(console.services(&session).all()).await?;
    let measured = measured(&console);
    Ok(Html(LagPage { page, measured, subscriptions, silent }.render()?))
}

async fn subscriptions(
    clients: Vec<Client>,
) -> Result<(Vec<SubscriptionCard>, Vec<Silent>), Error> {
    let listings = clients.into_iter().map(|it| it.within(ANSWER).subscription_list()).collect();
    let mut list = Merged::<Subscription>::new(listings, usize::MAX, Order::AsListed);
    let mut cards = Vec::new();
    while let Some(subscription) = list.next().await? {
        cards.push(SubscriptionCard::of(&subscription));
    }
    cards.sort_by_key(|card| card.tone == super::tone::Tone::Good);
    Ok((cards, Silent::of(&list.unavailable)))
}

fn measured(console: &Console) -> Option<Result<Vec<LagRow>, String>> {
    let trends = console.polled.trends.borrow();
    let measured = console.polled.lag.borrow();
    measured.as_ref().map(|it| match it.fresh() {
        Some(Ok(lag)) => Ok(lag.groups.iter().map(|it| LagRow::of(it, &trends)).collect()),
        Some(Err(why)) => Err(why.clone()),
        None => Err("the last measurement takes too long".to_owned()),
    })
}

/// Pauses or resumes a subscription.
async fn change(
    State(console): State<Console>,
    session: Session,
    Path((service, group, act)): Path<(String, String, String)>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let (state, opposite) = match &*act {
        "pause" => ("is paused; its instances stop within a second", "resume"),
        "resume" => ("is resumed; its instances continue within a second", "pause"),
        _ => return Err(PageError::not_found("A subscription can be paused and resumed.")),
    };
    let sent = send(&console, &session, (&service, &group, &act), &fields).await;
    let SentChange { why, was_running } = match sent {
        Ok(sent) => sent,
        Err(error) => return Ok(refused(&error, &fields, HERE)),
    };
    let mut notice = Notice::new(format!("{group} {state}."));
    // Resuming also closes breakers, and ends the pause of another operator.
    if opposite == "pause" || was_running {
        let back = fields.one("back").unwrap_or(HERE).to_owned();
        let undo = vec![("why".to_owned(), format!("undo: {why}")), ("back".to_owned(), back)];
        notice = notice.undo(&subscription_card::action(&service, &group, opposite), undo);
    }
    Ok(notice.back(&fields, HERE))
}

/// Returns whether a subscription has no pause and no open breaker.
async fn is_running(client: &Client, group: &str) -> Result<bool, Error> {
    let subscriptions = client.subscriptions().await?;
    let subscription = subscriptions.iter().find(|it| it.group == group);
    Ok(subscription.is_some_and(|it| it.paused.is_none() && it.open_breakers().next().is_none()))
}

/// A change that a service has made.
struct SentChange<'a> {
    /// The reason that the operator gave.
    why: &'a str,
    /// `true` if it paused a subscription that had no pause and no open breaker before.
    was_running: bool,
}

/// Sends the change to the service.
async fn send<'a>(
    console: &Console,
    session: &Session,
    (service, group, act): (&str, &str, &str),
    fields: &'a Fields,
) -> Result<SentChange<'a>, Error> {
    let why = why(fields)?;
    let client = one_service(&console.services(session), service)?;
    // Resuming needs no answer.
    let was_running = act == "pause" && is_running(&client, group).await?;
    client.change_subscription(group, act, why).await?;
    console.live.signal(&[Topic::Lag, Topic::History]);
    Ok(SentChange { why, was_running })
}
