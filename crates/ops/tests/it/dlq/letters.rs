//! `orderflow dlq` lists, shows and changes letters of a fake service whose responses the test
//! sets.

use std::io::pipe;
use std::process::Stdio;

use crate::fake::{Fake, Known, check, command, id, letter_of};
use crate::output::run;
use serde_json::json;

fn ten_letters() -> Known {
    let letters = (0..10).rev().map(|minute| letter_of("billing", minute, "dead")).collect();
    Known { letters, page: Some(3), ..Known::default() }
}

fn ids_in(text: &str) -> Vec<String> {
    (0..60).rev().map(id).filter(|id| text.contains(id)).collect()
}

#[tokio::test]
async fn a_list_shows_as_many_as_wanted_and_tells_how_many_more() {
    let fake = Fake::start(ten_letters()).await;
    let some = fake.run(&["list", "--limit", "4"]).await;
    check(&some, 0, &["4 of 10 open; 6 more with --all.", "reason 1"]);
    assert_eq!(ids_in(&some.out), [id(9), id(8), id(7), id(6)]);
    let all = fake.run(&["list", "--all", "--group", "billing"]).await;
    check(&all, 0, &["10 open in billing."]);
    assert_eq!(ids_in(&all.out).len(), 10);
}

#[tokio::test]
async fn json_is_one_document_with_what_the_service_sent() {
    let fake = Fake::start(ten_letters()).await;
    let some = fake.run(&["list", "--json", "--limit", "6", "--status", "dead"]).await;
    check(&some, 0, &[]);
    let document = some.json();
    assert_eq!(document["dead_letters"][5], letter_of("billing", 4, "dead"));
    assert_eq!(document["dead_letters"].as_array().unwrap().len(), 6);
    assert_eq!((&document["next_cursor"], &document["is_complete"]), (&json!("6"), &json!(false)));
    let all = fake.run(&["list", "--json", "--all"]).await;
    let document = all.json();
    assert_eq!(document["dead_letters"].as_array().unwrap().len(), 10);
    assert_eq!((&document["next_cursor"], &document["is_complete"]), (&json!(null), &json!(true)));
}

#[tokio::test]
async fn every_filter_is_a_condition_of_the_query() {
    let fake = Fake::start(ten_letters()).await;
    let filter = [
        "--status=parked",
        "--type=t",
        "--reason=a b&c",
        "--fingerprint=f",
        "--tenant=acme",
        "--subject=s",
        "--correlation-id=c",
        "--event-id=e",
        "--from=2026-11-25T10:00:00Z",
        "--to=2026-11-25T11:00:00+01:00",
    ];
    let ran = fake.run(&[&["list", "--group", "billing"][..], &filter].concat()).await;
    check(&ran, 0, &["No dead letters in billing that match are parked."]);
    let (_, query, _) = fake.known().requests[0].clone();
    assert_eq!(
        query,
        "/dead-letters?group=billing&status=parked&type=t&reason=a+b%26c&fingerprint=f&tenant=acme&subject=s&\
         correlation_id=c&event_id=e&from=2026-11-25T10%3A00%3A00Z&to=2026-11-25T11%3A00%3A00%2B01%3A00&limit=100"
    );
}

#[tokio::test]
async fn letters_of_all_services_are_merged_and_a_missing_one_is_named() {
    let known = |minutes: &[u32], group| {
        let letters = minutes.iter().map(|minute| letter_of(group, *minute, "dead")).collect();
        Known { letters, page: Some(1), ..Known::default() }
    };
    let billing = Fake::start(known(&[7, 3, 1], "billing")).await;
    let analytics = Fake::start(known(&[8, 2], "analytics")).await;
    let mut stopped = Fake::start(Known::default()).await;
    stopped.stop().await;
    let services = [
        ("order", stopped.address),
        ("billing", billing.address),
        ("analytics", analytics.address),
    ];
    let ran = run(command(&services, &["list"])).await;
    check(&ran, 1, &["5 open."]);
    assert_eq!(ids_in(&ran.out), [id(8), id(7), id(3), id(2), id(1)]);
    assert_eq!(ran.err.matches("order does not answer").count(), 1, "{}", ran.err);
    for arguments in [&["groups"][..], &["replays"]] {
        let ran = run(command(&services, arguments)).await;
        check(&ran, 1, &["order does not answer"]);
    }
    let ran = run(command(&services, &["list", "--json"])).await;
    let document = ran.json();
    assert_eq!((ran.status, &document["is_complete"]), (Some(1), &json!(false)));

    let ran = run(command(&services, &["show", &id(2)])).await;
    check(&ran, 0, &["analytics   dead", "payload      {\"a\":1}"]);
    let ran = run(command(&services, &["show", &id(55)])).await;
    check(&ran, 1, &["order does not answer"]);
    let ran = run(command(&services[1..], &["show", &id(55)])).await;
    check(&ran, 2, &["unknown dead letter", "Next: "]);
}

#[tokio::test]
async fn a_service_without_the_list_is_passed_over_among_several() {
    let fake = Fake::start(ten_letters()).await;
    let known = Known { without_letters: true, ..Known::default() };
    let without = Fake::start(known).await;
    let services = [("order", without.address), ("billing", fake.address)];
    check(&run(command(&services, &["list"])).await, 0, &["10 open."]);
    check(&run(command(&services[..1], &["list"])).await, 2, &["unknown path"]);
}

#[tokio::test]
async fn what_is_unknown_or_malformed_is_named() {
    let fake = Fake::start(ten_letters()).await;
    for (arguments, expected) in [
        (&["show", "order.completed/0/1"][..], "no id of a dead letter"),
        (&["show", "01a20a9a-0000-7000-8000-000000000000"], "unknown dead letter"),
        (&["list", "--status", "dread"], "invalid value 'dread'"),
        (&["list", "--from", "yesterday"], "from is not a time"),
        (&["list", "--limit", "0"], "--limit"),
        (&["list", "--sort", "x"], "--sort"),
        (&["list", "--group", "shipping"], "no service is called shipping"),
        (&["list", "--group", "billing.9"], "no subscription billing.9"),
        (&["groups", "--group", "billing.9"], "no subscription billing.9"),
        (&["replays", "--group", "billing.9"], "no subscription billing.9"),
        (&["rehearse", "--group", "billing.9"], "no subscription billing.9"),
        (&["list", "--topic", "x.dlq", "--group", "billing"], "leave out --group"),
        (&["replays", "show", "7"], "invalid value '7'"),
        (&["replays", "show", &id(99)], "unknown replay"),
        (&["replay", "--yes", "--why", "w"], "give --group"),
        (
            &["replay", "--group", "billing", "--id", &id(1), "--reason", "x"],
            "leave out the filter",
        ),
        (&["discard", "--group", "billing", "--yes", "--why", "w"], "--all"),
        (&["restore", "--group", "billing", "--all", "--tenant", "x"], "leave out --id"),
        (&["show", &id(1), "--json", "--as", "curl"], "leave out --json"),
    ] {
        let ran = fake.run(arguments).await;
        check(&ran, 2, &[expected]);
        assert_eq!(ran.out, "", "{arguments:?}");
    }
    let mut command = fake.command(&["list"]);
    command.env("ORDERFLOW_SERVICES", "billing");
    check(&run(command).await, 2, &["name=http"]);
}

#[tokio::test]
async fn a_wrong_token_is_told_with_the_setting() {
    let fake = Fake::start(ten_letters()).await;
    for arguments in [
        &["show", &id(1)][..],
        &["discard", "--group", "billing", "--all", "--yes", "--why", "w"],
        &["replay", "--group", "billing", "--yes", "--why", "w"],
    ] {
        let mut command = fake.command(arguments);
        command.env("OPERATOR_TOKEN", "wrong");
        check(&run(command).await, 1, &["send an operator's token", "Next: set OPERATOR_TOKEN"]);
    }
}

#[tokio::test]
async fn a_payload_can_not_control_the_terminal() {
    let mut letter = letter_of("billing", 1, "dead");
    for member in ["reason", "exception", "subject", "event_id", "causes", "tenant", "fingerprint"]
    {
        letter[member] = json!("\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}");
    }
    letter["value"] = json!({ "text": format!("{}\u{1b}[2J\u{0}", "x".repeat(1_000_000)) });
    letter["key"] = json!({ "base64": "/xs=" });
    let known = Known { letters: vec![letter], ..Known::default() };
    let fake = Fake::start(known).await;
    let first = id(1);
    for arguments in [
        &["list"][..],
        &["show", &first],
        &["show", &first, "--as", "kcat"],
        &["show", &first, "--as", "curl"],
        &["replay", "--group", "billing", "--dry-run"],
    ] {
        let ran = fake.run(arguments).await;
        check(&ran, 0, &[]);
        let shown = ran.out.replace('\n', "");
        assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{arguments:?}");
    }
}

/// The detail of a problem may quote a payload too.
#[tokio::test]
async fn what_a_schema_refuses_is_told_and_numbers_are_not_rounded() {
    let fake = Fake::start(ten_letters()).await;
    let (first, value) = (id(1), r#"{"a": 9007199254740993.10}"#);
    let edit = ["edit", &first, "--value", value, "--why", "typo"];
    check(&fake.run(&edit).await, 2, &["give --yes"]);
    check(&fake.run(&["edit", &first, "--value", "{", "--yes"]).await, 2, &["not JSON"]);
    assert!(fake.bodies("PUT", "/").is_empty());

    let ran = fake.run(&[&edit[..], &["--yes"]].concat()).await;
    check(
        &ran,
        0,
        &["payload      {\"a\":1}", "becomes      {\"a\": 9007199254740993.10}", "rehearse --id"],
    );
    let bodies = fake.bodies("PUT", &format!("/dead-letters/{first}/payload"));
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0]["why"], "typo");

    fake.known().refuses = Some((422, "value.a: \u{1b}[2J is not an integer"));
    let ran = fake.run(&[&edit[..], &["--yes"]].concat()).await;
    check(&ran, 2, &["  value.a: \\x1b[2J is not an integer\n"]);
}

#[tokio::test]
async fn letters_are_discarded_and_restored_by_filter_or_id() {
    let fake = Fake::start(ten_letters()).await;
    let discard = ["discard", "--group", "billing", "--subject", "s3", "--why", "junk"];
    check(&fake.run(&discard).await, 2, &["1 dead letter of billing:", "give --yes"]);
    let ran = fake.run(&[&discard[..], &["--yes"]].concat()).await;
    check(&ran, 0, &["7 letters of billing discarded."]);
    // Letters that died after those that were shown are not discarded.
    let filter = json!({ "subject": "s3", "to": "2026-11-25T10:03:00.000001Z" });
    let body = json!({ "group": "billing", "filter": filter, "why": "junk" });
    assert_eq!(fake.bodies("POST", "/dead-letters/discard"), [body]);

    // No letter is discarded, so there is no question.
    let restore = ["restore", "--group", "billing", "--all", "--why", "w", "--yes"];
    check(&fake.run(&restore).await, 0, &["No dead letters in billing to choose from."]);
    let (one, two) = (id(1), id(2));
    let restore =
        ["restore", "--id", &one, "--id", &two, "--id", &one, "--why", "w", "--yes", "--json"];
    let ran = fake.run(&restore).await;
    check(&ran, 0, &[]);
    assert_eq!(ran.out, "{\"letters\":2}\n");
    let body = json!({ "group": "billing", "ids": [one, two], "why": "w" });
    assert_eq!(fake.bodies("POST", "/dead-letters/restore"), [body]);
}

#[tokio::test]
async fn a_reader_that_closes_early_ends_the_output_quietly() {
    let mut known = ten_letters();
    known.progress.push_back(crate::fake::replay_of("done", 10, &json!({ "processed": 10 })));
    known.replays.push(crate::fake::replay_of("done", 10, &json!({ "processed": 10 })));
    let fake = Fake::start(known).await;
    let (first, replay) = (id(1), id(99));
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["groups"],
        &["show", &first],
        &["show", &first, "--as", "kcat"],
        &["replays"],
        &["replays", "show", &replay],
        &["rehearse", "--group", "billing"],
        &["replay", "--group", "billing", "--yes", "--why", "w"],
    ] {
        let mut command = fake.command(arguments);
        // Closed before the first line, as `| head -1` does before the second.
        let (_, closed) = pipe().unwrap();
        command.stdout(closed).stderr(Stdio::piped());
        let ran = run(command).await;
        assert_eq!((ran.status, &*ran.err), (Some(0), ""), "{arguments:?}");
    }
}
