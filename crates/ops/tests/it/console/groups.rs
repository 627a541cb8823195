use serde_json::json;

use super::serve::{Serve, borrowed, form, has, lacks, link};
use crate::fake::{Fake, Known, group_of};

fn known(groups: Vec<serde_json::Value>) -> Known {
    Known { groups, ..Known::default() }
}

#[tokio::test]
async fn groups_of_all_services_are_merged_and_one_that_is_down_is_named() {
    let mut old = group_of("analytics", "f1", 3, "acknowledged");
    old["last_at"] = json!("2026-11-25T09:00:00Z");
    (old["note"], old["by"]) = (json!("see #7"), json!("ada"));
    let billing = Fake::start(known(vec![group_of("billing", "f2", 12_000, "regressed")])).await;
    let analytics = Fake::start(known(vec![old])).await;
    let mut stopped = Fake::start(Known::default()).await;
    stopped.stop().await;
    let services = [
        ("order", stopped.address),
        ("billing", billing.address),
        ("analytics", analytics.address),
    ];
    let serve = Serve::start(&services).await;
    let page = serve.operator().page("/failures").await;
    has(
        &page,
        &[
            "order does not answer GET /dead-letters/groups",
            "see #7",
            "12,000",
            "regressed",
            "acknowledged",
        ],
    );
    assert!(
        page.find("reason of f2").unwrap() < page.find("reason of f1").unwrap(),
        "newest first"
    );
    has(
        &page,
        &["<time data-age datetime=\"2026-11-25T10:30:00Z\" title=\"2026-11-25 10:30:00 UTC\""],
    );

    let page = serve.operator().page("/failures?group=analytics").await;
    has(&page, &["reason of f1", "value=\"analytics\""]);
    lacks(&page, &["reason of f2", "order does not answer"]);
}

#[tokio::test]
async fn what_needs_no_work_is_shown_on_demand() {
    let groups = vec![
        group_of("billing", "f1", 2, "open"),
        group_of("billing", "f2", 2, "ignored"),
        group_of("billing", "f3", 0, "resolved"),
    ];
    let fake = Fake::start(known(groups)).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page("/failures").await;
    has(&page, &["reason of f1"]);
    lacks(&page, &["reason of f2", "reason of f3"]);
    has(&operator.page("/failures?state=any").await, &["of f1", "of f2", "of f3"]);
    let page = operator.page("/failures?state=any&reason=OF+F3").await;
    has(&page, &["reason of f3", "value=\"OF F3\""]);
    lacks(&page, &["reason of f1"]);
    has(&operator.page("/failures?reason=unknown").await, &["No group matches", "Show all groups"]);
    fake.known().groups.clear();
    has(&operator.page("/failures").await, &["Nothing needs attention"]);
}

#[tokio::test]
async fn a_status_is_set_with_its_note_and_the_undo_takes_it_back() {
    let mut group = group_of("billing", "f1", 2, "acknowledged");
    group["note"] = json!("the \"old\" note");
    let fake = Fake::start(known(vec![group])).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page("/failures?state=any&reason=f1").await;
    let mut fields = form(&page, "/failures/groups", "Triage");
    fields.extend([
        ("note".into(), "rates are back at noon".into()),
        ("status".into(), "ignored".into()),
    ]);
    let (location, page) = operator.act("/failures/groups", &borrowed(&fields)).await;
    assert_eq!(location, "/failures?reason=f1&state=any", "filters survive");
    has(&page, &["reason of f1: ignored."]);
    let path = "/dead-letters/groups/f1";
    let set = json!({ "status": "ignored", "note": "rates are back at noon" });
    assert_eq!(fake.bodies("PUT", path), [set]);

    let undo = form(&page, "/failures/groups", "id=\"said\"");
    let (location, _) = operator.act("/failures/groups", &borrowed(&undo)).await;
    assert_eq!(location, "/failures?reason=f1&state=any");
    let back = json!({ "status": "acknowledged", "note": "the \"old\" note" });
    assert_eq!(fake.bodies("PUT", path)[1], back);
}

#[tokio::test]
async fn many_groups_have_pages() {
    let groups = (0..120).map(|number| {
        let mut group = group_of("billing", &format!("f{number}"), 1, "open");
        group["last_at"] =
            json!(format!("2026-11-25T10:{:02}:{:02}Z", 59 - number / 60, 59 - number % 60));
        group["reason"] = json!(format!("reason number {number}."));
        group
    });
    let fake = Fake::start(known(groups.collect())).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let (mut path, mut seen) = ("/failures?type=order.completed".to_owned(), Vec::new());
    loop {
        let page = operator.page(&path).await;
        seen.extend((0..120).filter(|it| page.contains(&format!("reason number {it}."))));
        let Some(next) = link(&page, "Older groups") else { break };
        assert!(next.starts_with("/failures?type=order.completed&cursor="), "{next}");
        path = next;
    }
    assert_eq!(seen, (0..120).collect::<Vec<_>>());
}
