//! How far each group is behind, and the subscriptions: what holds them up, pause and resume.

mod row;
mod subscription_card;

pub(super) use row::LagRow;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, Response};
use axum::routing::{get, post};

use self::subscription_card::SubscriptionCard;
use super::fields::Sent;
use super::silent::Silent;
use super::{Area, Console, Page, PageError, Said, Session, Topic, filters};
use crate::client::{Client, Merged, Order, Subscription};
use crate::error::Error;

const HERE: &str = "/lag";

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(HERE, get(show))
        .route("/lag/{service}/{group}/pause", post(pause))
        .route("/lag/{service}/{group}/resume", post(resume))
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
    let listings = clients.iter().map(Client::subscription_list).collect();
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

async fn pause(
    State(console): State<Console>,
    session: Session,
    Path(place): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, PageError> {
    change(&console, &session, place, sent, "pause").await
}

async fn resume(
    State(console): State<Console>,
    session: Session,
    Path(place): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, PageError> {
    change(&console, &session, place, sent, "resume").await
}

/// Pauses or resumes a subscription, and offers the opposite.
async fn change(
    console: &Console,
    session: &Session,
    (service, group): (String, String),
    Sent(fields): Sent,
    act: &str,
) -> Result<Response, PageError> {
    let Some(why) = fields.one("why") else {
        return Ok(Said::bad("Say why: the reason is kept with your name.").back(&fields, HERE));
    };
    let services = console.services(session).named(Some(&service))?;
    let client =
        services.first().ok_or_else(|| PageError::not_found("There is no such service."))?;
    client.change_subscription(&group, act, why).await?;
    console.live.signal(&[Topic::Lag, Topic::History]);
    let (said, opposite) = match act {
        "pause" => ("is paused; its instances obey within a second", "resume"),
        _ => ("goes on; its instances obey within a second", "pause"),
    };
    let back = fields.one("back").unwrap_or(HERE).to_owned();
    let undo = vec![("why".to_owned(), format!("undo: {why}")), ("back".to_owned(), back)];
    let action = subscription_card::action(&service, &group, opposite);
    Ok(Said::new(format!("{group} {said}.")).undo(&action, undo).back(&fields, HERE))
}
