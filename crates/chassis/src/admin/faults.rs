//! `/faults` on the admin port: faults that an operator injects into subscriptions, if `FAULTS=on`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json as Body, Router};
use consumer::Fault;
use serde::Deserialize;

use super::Admin;
use super::acts::NewAct;
use super::operator::Operator;
use super::subscriptions::unknown_subscription;
use crate::http::{Json, JsonObject, Problem};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/faults", get(list).put(set))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFault {
    subscription: String,
    /// `null` ends the fault.
    fault: Option<JsonObject<Fault>>,
}

async fn list(State(admin): State<Admin>) -> impl IntoResponse {
    let all = admin.faults.as_deref().into_iter().flatten();
    let current: BTreeMap<_, _> =
        all.map(|(subscription, faults)| (subscription.clone(), faults.current())).collect();
    Body(current)
}

async fn set(
    State(admin): State<Admin>,
    operator: Operator,
    Json(set): Json<SetFault>,
) -> Result<StatusCode, Problem> {
    let all = admin.faults.as_deref();
    let faults = all.and_then(|all| all.get(&set.subscription)).ok_or_else(|| {
        let known = all.into_iter().flatten().map(|(name, _)| name.as_str());
        unknown_subscription(&set.subscription, known)
    })?;
    let fault = set.fault.map(|JsonObject(fault)| fault);
    if let Some(fault) = &fault
        && !(0.0..=1.0).contains(&fault.rate)
    {
        return Err(Problem::unprocessable("fault.rate must be between 0 and 1"));
    }
    let outcome = match &fault {
        Some(fault) => serde_json::to_string(fault).map_err(Problem::internal)?,
        None => "no fault".to_owned(),
    };
    let act = NewAct { act: "fault.set", target: set.subscription, why: None };
    let setting = async {
        faults.set(fault);
        Ok((StatusCode::NO_CONTENT, outcome))
    };
    admin.acts.record(&operator, act, setting).await
}
