//! Changes of all jobs that match a filter.

use serde_json::json;

use super::serve::{Serve, borrowed, form, has};
use crate::fake::{Fake, Known, job_of};

/// Starts a service with this number of failed jobs.
async fn failed(jobs: u32) -> Fake {
    let jobs = (0..jobs).rev().map(|it| job_of(it % 60, "deliver", "failed")).collect();
    Fake::start(Known { jobs, ..Known::default() }).await
}

/// Returns the number of requests for lists of jobs by their kind, of which the poller sends none.
fn lists(fake: &Fake) -> usize {
    fake.known().job_lists.iter().filter(|it| it.contains("kind=deliver")).count()
}

#[tokio::test]
async fn a_confirmed_change_of_all_jobs_lists_none_again() {
    let fake = failed(8).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page("/jobs/all/retry?kind=deliver").await;
    let mut fields = form(&page, "/jobs/all/retry", "8 jobs of billing");
    fields.push(("why".into(), "it is back".into()));
    let listed = lists(&fake);
    let answer = operator.post("/jobs/all/retry", &borrowed(&fields)).await;
    assert_eq!((answer.status, answer.location.as_deref()), (303, Some("/jobs?kind=deliver")));
    assert_eq!(lists(&fake), listed);
    // Jobs that failed after those that were shown are not retried.
    let filter = json!({ "kind": "deliver", "until": "2026-11-25T11:00:00Z" });
    let body = json!({ "filter": filter, "why": "it is back" });
    assert_eq!(fake.bodies("POST", "/jobs/retry"), [body]);
}

#[tokio::test]
async fn a_confirmed_change_reaches_only_the_services_that_were_shown() {
    let (billing, order) = (failed(2).await, Fake::start(Known::default()).await);
    let services = [("billing", billing.address), ("order", order.address)];
    let serve = Serve::start(&services).await;
    let mut operator = serve.operator();
    let page = operator.page("/jobs/all/retry").await;
    let mut fields = form(&page, "/jobs/all/retry", "2 jobs of billing");
    fields.push(("why".into(), "it is back".into()));
    let answer = operator.post("/jobs/all/retry", &borrowed(&fields)).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!((billing.bodies("POST", "/").len(), order.bodies("POST", "/").len()), (1, 0));
}

#[tokio::test]
async fn many_jobs_are_counted_up_to_a_limit() {
    let fake = failed(10_500).await;
    let serve = Serve::of(&fake).await;
    let page = serve.operator().page("/jobs/all/retry?kind=deliver").await;
    has(&page, &["at least 10000 jobs of billing"]);
    assert_eq!(lists(&fake), 11, "pages of a thousand");
    let fields = form(&page, "/jobs/all/retry", "at least");
    assert!(fields.iter().any(|(name, _)| name == "until"), "{fields:?}");
}

#[tokio::test]
async fn a_change_of_jobs_that_were_not_shown_is_refused() {
    let fake = failed(2).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page("/jobs/all/discard").await;
    let mut fields = form(&page, "/jobs/all/discard", "2 jobs of billing");
    fields.push(("why".into(), "it is over".into()));
    for missing in ["of", "until"] {
        let mut fields = fields.clone();
        fields.retain(|(name, _)| name != missing);
        let answer = operator.post("/jobs/all/discard", &borrowed(&fields)).await;
        assert_eq!(answer.status, 303, "{answer:?}");
    }
    assert!(fake.bodies("POST", "/").is_empty());
}
