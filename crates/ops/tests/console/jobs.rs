use crate::house::House;
use crate::service::{Service, job_of};
use browser::Browser;

fn failed(house: &House) -> usize {
    house.service.known().jobs.iter().filter(|it| it["state"] == "failed").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn selected_jobs_are_retried_and_the_filter_stays() {
    let house = House::start().await;
    house.service.known().jobs = (0..5).map(|it| job_of(it, "send-email", "failed")).collect();
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?state=failed&kind=send-email")).await;
    let disabled =
        "return [...document.querySelectorAll('.bulk button')].every((it) => it.disabled)";
    assert_eq!(browser.run(disabled).await, true, "nothing is selected");
    browser.click("#select-01a20a9a-7779-774a-8232-000000000001").await;
    browser.click("#select-01a20a9a-7779-774a-8232-000000000003").await;
    browser.shows("2 selected").await;
    browser.enter("input[name=why]", "the mail server is back").await;
    browser.press("Retry").await;
    browser.shows("2 jobs of billing will be retried.").await;
    browser.is_at("/jobs?state=failed&kind=send-email").await;
    assert_eq!(failed(&house), 3);
    browser.goto(&house.url("/history")).await;
    browser.shows("the mail server is back").await;
    let text = browser.text().await;
    assert!(!text.contains("will be retried"), "it is said once: {text}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_not_selected_with_all_others() {
    let house = House::start().await;
    house.service.known().jobs =
        vec![job_of(1, "send-email", "running"), job_of(2, "send-email", "failed")];
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs")).await;
    browser.click("#all-jobs").await;
    browser.shows("1 selected").await;
    let all = "const all = document.getElementById('all-jobs');
        return all.checked && !all.indeterminate";
    assert_eq!(browser.run(all).await, true);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_jobs_of_a_filter_are_shown_by_reason_before_they_are_discarded() {
    let house = House::start().await;
    house.service.known().jobs = (0..70).map(|it| job_of(it, "send-email", "failed")).collect();
    house.service.known().jobs.push(job_of(99, "deliver-webhook", "failed"));
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?kind=send-email")).await;
    browser.press("Discard all of these…").await;
    browser.shows("70 jobs of billing").await;
    browser.shows("the target answered 503").await;
    assert_eq!(failed(&house), 71, "nothing was done yet");
    let mut later = job_of(100, "send-email", "failed");
    later["failed_at"] = "2026-11-25T11:00:01Z".into();
    house.service.known().jobs.push(later);
    browser.enter("main input[name=why]", "test orders").await;
    browser.press("Discard them").await;
    browser.shows("70 jobs of billing discarded.").await;
    browser.is_at("/jobs?kind=send-email").await;
    assert_eq!(failed(&house), 2, "the one of another kind, and the one that failed meanwhile");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_one_service_follow_each_other() {
    let house = House::start().await;
    house.service.known().jobs = (0..120).map(|it| job_of(it, "send-email", "failed")).collect();
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?service=billing")).await;
    browser.press("Older").await;
    browser.shows("order-50").await;
    browser.press("Older").await;
    browser.shows("order-119").await;
    assert_eq!(browser.run("return document.querySelectorAll('tbody tr').length").await, 20);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_the_page_and_its_filter_and_says_why() {
    let house = House::with(&[]).await;
    house.service.known().jobs = vec![job_of(1, "send-email", "failed")];
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?state=failed")).await;
    browser.shows("A discard can't be undone.").await;
    browser.click("#select-01a20a9a-7779-774a-8232-000000000001").await;
    browser.enter("#jobs-form input[name=why]", "test orders").await;
    browser.press("Discard").await;
    browser.shows("billing does not know your token. Sign in").await;
    browser.is_at("/jobs?state=failed").await;
    browser.press("Retry all of these…").await;
    browser.enter("main input[name=why]", "it is back").await;
    browser.press("Retry them").await;
    browser.shows("billing does not know your token. Sign in").await;
    browser.is_at("/jobs?state=failed").await;
    assert_eq!(failed(&house), 1);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_several_services_follow_each_other() {
    let other = Service::start().await;
    let house = House::with(&[]).await;
    let services =
        format!("billing=http://{},order=http://{}", house.service.address, other.address);
    let both = House::with(&[("ORDERFLOW_SERVICES", &services)]).await;
    let made = |from: u32| {
        let jobs = (0..40).rev().map(|it| {
            let mut job = job_of(from + it, "send-email", "failed");
            job["created_at"] = format!("2026-11-25T10:{it:02}:{:02}Z", from / 100).into();
            job
        });
        jobs.collect()
    };
    house.service.known().jobs = made(100);
    other.known().jobs = made(200);
    let browser = Browser::start().await;
    let rows = "return [...document.querySelectorAll('tbody tr')].map((it) => it.id)";
    browser.goto(&both.url("/jobs")).await;
    let first = browser.run(rows).await;
    browser.press("Older").await;
    browser.shows("Newest").await;
    let second = browser.run(rows).await;
    let ids: Vec<_> =
        [first, second].iter().flat_map(|it| it.as_array().unwrap().clone()).collect();
    let distinct: std::collections::HashSet<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!((ids.len(), distinct.len()), (80, 80));
    browser.press("Newest").await;
    browser.is_at("/jobs").await;
    browser.close().await;
}
