//! `orderflow jobs`.

use serde_json::json;

use crate::fake::{Fake, Known, TOKEN, check, id, job_of, orderflow};
use crate::output::run;
use crate::terminal::on_a_terminal;

async fn with_jobs() -> Fake {
    let mut jobs = vec![job_of(9, "send", "waiting"), job_of(8, "send", "running")];
    jobs.extend((0..8).rev().map(|minute| job_of(minute, "deliver", "failed")));
    Fake::start(Known { jobs, page: Some(3), ..Known::default() }).await
}

fn ids_in(text: &str) -> Vec<String> {
    (0..60).rev().map(id).filter(|id| text.contains(id)).collect()
}

#[tokio::test]
async fn a_list_shows_as_many_as_wanted_and_tells_how_many_more() {
    let fake = with_jobs().await;
    let some = fake.orderflow(&["jobs", "list", "--limit", "4"]).await;
    check(&some, 0, &["4 of 10 jobs; 6 more with --all.", "due          2026-11-25 11:00:00 UTC"]);
    assert_eq!(ids_in(&some.out), [id(9), id(8), id(7), id(6)]);
    let failed = fake.orderflow(&["jobs", "list", "--state", "failed", "--kind", "deliver"]).await;
    check(&failed, 0, &["8 failed jobs.", "billing   deliver   failed", "the target answered 503"]);
    let none = fake.orderflow(&["jobs", "list", "--subject", "x"]).await;
    check(&none, 0, &["There are no such jobs"]);
    let json = fake.orderflow(&["jobs", "list", "--json", "--limit", "6"]).await;
    let document = json.json();
    assert_eq!(document["jobs"].as_array().unwrap().len(), 6);
    assert_eq!((&document["next_cursor"], &document["is_complete"]), (&json!("6"), &json!(false)));
    let job = &document["jobs"][1];
    let members = [&job["service"], &job["new_member"], &job["created_at"]];
    assert_eq!(members, [&json!("billing"), &json!(8), &json!("2026-11-25T10:08:00Z")]);
}

#[tokio::test]
async fn jobs_of_several_services_are_merged_by_time_whatever_its_format() {
    let jobs = |jobs: &[(u32, &str)]| {
        let jobs = jobs.iter().map(|(minute, at)| {
            let mut job = job_of(*minute, "send", "waiting");
            job["created_at"] = (*at).into();
            job
        });
        Known { jobs: jobs.collect(), ..Known::default() }
    };
    let billing =
        jobs(&[(4, "2026-11-25T10:00:00.5Z"), (2, "2026-11-25T12:59:59+03:00"), (1, "odd")]);
    let order = jobs(&[(5, "2026-11-25T09:00:01-01:00"), (3, "2026-11-25T10:00:00Z")]);
    let (billing, order) = (Fake::start(billing).await, Fake::start(order).await);
    let services = [("billing", billing.address), ("order", order.address)];
    let ran = run(orderflow(&services, &["jobs", "list"])).await;
    check(&ran, 0, &["5 jobs."]);
    let lines = ran.out.lines().filter_map(|line| line.split("   ").next());
    let shown: Vec<_> = lines.filter(|it| it.len() == 36).collect();
    assert_eq!(shown, [5, 4, 3, 2, 1].map(id));
    let ran = run(orderflow(&services, &["jobs", "list", "--service", "order"])).await;
    check(&ran, 0, &["2 jobs."]);
}

#[tokio::test]
async fn a_job_is_shown_with_its_payload_and_errors() {
    let fake = with_jobs().await;
    let ran = fake.orderflow(&["jobs", "show", &id(3)]).await;
    check(
        &ran,
        0,
        &[
            "attempt      1 at 2026-11-26 01:30:12 UTC\n             503\n             caused by: x",
            // JSON has escaped it already.
            "payload      {\"to\":\"ada\\u001b@example.com\"}",
            &format!("orderflow jobs retry {}", id(3)),
        ],
    );
    let json = fake.orderflow(&["jobs", "show", &id(3), "--json"]).await;
    let document = json.json();
    assert_eq!(document["service"], "billing");
}

#[tokio::test]
async fn jobs_are_retried_and_discarded_by_filter_or_id() {
    let fake = with_jobs().await;
    let retry = ["jobs", "retry", "--kind", "deliver", "--why", "it is back"];
    let ran = fake.orderflow(&retry).await;
    check(
        &ran,
        2,
        &["8 jobs of billing:", "8   billing   deliver   the target answered 503", "--yes"],
    );
    assert!(fake.bodies("POST", "/").is_empty());
    let ran = fake.orderflow(&[&retry[..], &["--yes"]].concat()).await;
    check(&ran, 0, &["7 jobs of billing will be retried; 2 left failed, since another"]);
    // Jobs that failed after those that were shown are not retried.
    let filter = json!({ "kind": "deliver", "until": "2026-11-25T11:00:00Z" });
    let body = json!({ "filter": filter, "why": "it is back" });
    assert_eq!(fake.bodies("POST", "/jobs/retry"), [body]);

    // Running jobs are not counted, since they can't be discarded.
    let ran = fake.orderflow(&["jobs", "discard", "--kind", "send", "--why", "w", "--yes"]).await;
    check(&ran, 0, &["1 job of billing:", "7 jobs of billing discarded"]);
    let (one, two) = (id(1), id(2));
    let discard = ["jobs", "discard", &one, &two, &one, "--why", "w", "--yes", "--json"];
    let ran = fake.orderflow(&discard).await;
    check(&ran, 0, &[]);
    let document = ran.json();
    let services = json!({ "billing": { "jobs": 7, "skipped": 2 } });
    assert_eq!(document, json!({ "jobs": 7, "skipped": 2, "services": services }));
    let body = json!({ "ids": [one, two], "why": "w" });
    assert_eq!(fake.bodies("POST", "/jobs/discard")[1], body);

    let none = ["jobs", "retry", "--kind", "other", "--why", "w", "--yes"];
    check(&fake.orderflow(&none).await, 0, &["There are no such jobs."]);
}

#[tokio::test]
async fn only_services_that_have_such_jobs_are_asked_and_what_fails_is_named() {
    let (billing, order) = (with_jobs().await, with_jobs().await);
    let notification = Fake::start(Known::default()).await;
    let mut stopped = Fake::start(Known::default()).await;
    stopped.stop().await;
    let services = [
        ("analytics", stopped.address),
        ("billing", billing.address),
        ("order", order.address),
        ("notification", notification.address),
    ];
    billing.known().refuses = Some((503, "the database failed after 40 jobs were changed"));
    let retry = ["jobs", "retry", "--state", "failed", "--why", "w", "--yes"];
    let ran = run(orderflow(&services, &retry)).await;
    check(
        &ran,
        1,
        &[
            "16 jobs of billing, order:",
            "analytics does not answer",
            "after 40 jobs",
            "7 jobs of order",
        ],
    );
    assert!(notification.bodies("POST", "/").is_empty());
    let ran = run(orderflow(&services[..2], &retry)).await;
    check(&ran, 1, &["could not retry jobs of billing", "after 40 jobs"]);
}

#[tokio::test]
async fn whatever_is_not_yes_sends_nothing() {
    let fake = with_jobs().await;
    let services = [("billing", fake.address)];
    for (act, typed) in [("retry", "n\n"), ("discard", "\n")] {
        let command = orderflow(&services, &["jobs", act, "--all"]);
        let (status, shown) = on_a_terminal(command, typed).await;
        assert_eq!(status, Some(1), "{shown}");
        assert!(shown.contains("jobs of billing? [y/N] "), "{shown}");
    }
    assert!(fake.bodies("POST", "/").is_empty());
    let command = orderflow(&services, &["jobs", "retry", &id(1)]);
    let (status, shown) = on_a_terminal(command, "y\nit is back\n").await;
    assert_eq!(status, Some(0), "{shown}");
    assert_eq!(fake.bodies("POST", "/jobs/retry")[0]["why"], "it is back");
}

#[tokio::test]
async fn what_is_unknown_or_contradicts_itself_is_named() {
    let fake = with_jobs().await;
    let one = id(1);
    for (arguments, expected) in [
        (&["show", "7"][..], "invalid value '7'"),
        (&["show", &id(55)], "there is no such job"),
        (&["retry", &id(55), "--yes", "--why", "w"], "there is no such job"),
        (&["list", "--state", "lost"], "invalid value 'lost'"),
        (&["list", "--service", "shipping"], "no service is called shipping"),
        (&["retry", "--yes", "--why", "w"], "--all"),
        (&["retry", &one, "--kind", "x", "--yes"], "leave out the filter"),
        (&["discard", "--all", "--kind", "x", "--yes"], "leave out ids"),
        (&["retry", "--state", "waiting", "--yes"], "retry applies to jobs that are failed"),
        (&["discard", "--state", "running", "--yes"], "failed or waiting"),
        (&["discard", "--all", "--json"], "give --yes"),
        (&["retry", "--all", "--yes"], "give --why"),
    ] {
        let ran = fake.orderflow(&[&["jobs"], arguments].concat()).await;
        check(&ran, 2, &[expected]);
    }
    assert!(fake.bodies("POST", "/").is_empty());
    let mut command = orderflow(&[("billing", fake.address)], &["jobs", "show", &one]);
    command.env("OPERATOR_TOKEN", "wrong");
    check(&run(command).await, 1, &["Next: set OPERATOR_TOKEN"]);
}

#[tokio::test]
async fn the_token_can_come_from_a_file() {
    let one = id(1);
    let fake = with_jobs().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let with_file = |file: &std::path::Path, token: &str| {
        let mut command = orderflow(&[("billing", fake.address)], &["jobs", "show", &one]);
        command.env("OPERATOR_TOKEN_FILE", file).env("OPERATOR_TOKEN", token);
        // A setting of another command, which this one must ignore.
        command.env("ALERT_WEBHOOK_SECRET_FILE", "/nowhere");
        run(command)
    };
    check(&with_file(&file, "").await, 0, &[]);
    check(&with_file(&file, TOKEN).await, 2, &["OPERATOR_TOKEN_FILE are both set"]);
    check(&with_file(&folder.path().join("none"), "").await, 2, &["OPERATOR_TOKEN_FILE: "]);
}
