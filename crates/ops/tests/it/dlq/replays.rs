//! `orderflow dlq` rehearses and replays letters of a fake service whose responses the test sets.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::{Fake, Known, check, id, letter_of, replay_of, until};
use crate::output::CommandOutput;
use serde_json::{Value, json};

const REPLAY: [&str; 6] = ["replay", "--group", "billing", "--why", "fixed", "--yes"];

fn known(progress: impl IntoIterator<Item = Value>) -> Known {
    let letters = (0..30).rev().map(|minute| letter_of("billing", minute, "dead")).collect();
    Known { letters, progress: progress.into_iter().collect(), ..Known::default() }
}

#[tokio::test]
async fn nothing_is_sent_without_an_answer() {
    let fake = Fake::start(known([replay_of("done", 30, &json!({}))])).await;
    let ran = fake.run(&["replay", "--group", "billing", "--why", "w"]).await;
    check(
        &ran,
        2,
        &["30 dead letters of billing:", "15   order.completed   reason 0", "give --yes"],
    );
    check(&fake.run(&["replay", "--group", "billing", "--yes"]).await, 2, &["give --why"]);
    check(&fake.run(&["replay", "--group", "billing", "--json"]).await, 2, &["give --yes"]);
    check(&fake.run(&["replay", "--group", "billing", "--dry-run"]).await, 0, &["30 dead letters"]);
    assert!(fake.bodies("POST", "/replays").is_empty());
}

#[tokio::test]
async fn a_replay_is_watched_until_all_ended_well() {
    let progress = [
        replay_of("queued", 30, &json!({})),
        replay_of("running", 30, &json!({ "processed": 10 })),
        replay_of("done", 30, &json!({ "processed": 28, "duplicate": 2 })),
    ];
    let fake = Fake::start(known(progress)).await;
    let more = ["--rate", "2.5", "--ramp", "--stop-after", "3", "--force", "--reason", "x"];
    let ran = fake.run(&[&REPLAY[..], &more].concat()).await;
    check(
        &ran,
        0,
        &["of 30 letters, requested by ada", "All 30 ended well: 28 processed, 2 duplicates."],
    );
    let body = json!({
        "group": "billing", "filter": { "reason": "x", "to": "2026-11-25T10:29:00.000001Z" }, "rehearse": false,
        "rate": 2.5, "ramp": true, "stop_after": 3, "force": true, "why": "fixed",
    });
    assert_eq!(fake.bodies("POST", "/replays"), [body]);
}

#[tokio::test]
async fn failures_are_told_with_their_reasons() {
    let mut done = replay_of("done", 30, &json!({ "processed": 26, "failed": 3, "held": 1 }));
    done["failures"] = json!([{ "reason": "no such\u{1b} customer", "letters": 3 }]);
    let fake = Fake::start(known([done])).await;
    let ran = fake.run(&REPLAY).await;
    let expected = [
        "26 of 30 ended well: 26 processed, 3 failed, 1 held back.",
        "   3   no such\\x1b customer\n",
        "4 letters are dead again",
    ];
    check(&ran, 1, &expected);
    let ran = fake.run(&[&REPLAY[..], &["--json"]].concat()).await;
    check(&ran, 1, &[]);
    let document = ran.json();
    assert_eq!(document["failures"][0]["letters"], 3);
}

#[tokio::test]
async fn the_outcome_of_each_of_a_few_letters_is_told() {
    let done = replay_of("done", 2, &json!({ "processed": 1, "failed": 1 }));
    let mut known = known([done]);
    known.page = Some(1);
    known.replayed = vec![
        json!({ "id": id(1), "event_id": null, "subject": null, "outcome": "processed", "reason": null, "settled_at": null }),
        json!({ "id": id(2), "event_id": null, "subject": null, "outcome": "failed", "reason": "why", "settled_at": null }),
    ];
    let fake = Fake::start(known).await;
    let (one, two) = (id(1), id(2));
    let ran = fake.run(&["replay", "--id", &one, "--id", &two, "--why", "w", "--yes"]).await;
    let lines = [format!("  {one}   processed\n"), format!("  {two}   failed again: why\n")];
    check(&ran, 1, &[&lines[0], &lines[1], "1 of 2 ended well"]);
    assert_eq!(fake.bodies("POST", "/replays")[0]["ids"], json!([one, two]));
    let ran = fake.run(&["replays", "letters", &id(99), "--outcome", "failed"]).await;
    check(&ran, 0, &[]);
    assert_eq!(ran.out, lines[1]);
    let ran = fake.run(&["replays", "letters", &id(99), "--limit", "1"]).await;
    check(&ran, 0, &[&lines[0], "There are more"]);
}

#[tokio::test]
async fn a_service_that_restarts_is_asked_again_and_named_once() {
    let running = replay_of("running", 30, &json!({ "processed": 10 }));
    let mut fake = Fake::start(known([running])).await;
    let child = fake.command(&REPLAY).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    until(|| !fake.bodies("POST", "/replays").is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    fake.stop().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    fake.known().progress = [replay_of("done", 30, &json!({ "processed": 30 }))].into();
    fake.start_again();
    let ending = tokio::task::spawn_blocking(|| child.unwrap().wait_with_output());
    let ran = CommandOutput::of(ending.await.unwrap().unwrap());
    check(&ran, 0, &["All 30 ended well"]);
    assert_eq!(ran.err.matches("does not answer").count(), 1, "{}", ran.err);
    assert_eq!(ran.err.matches("answers again").count(), 1, "{}", ran.err);
    assert_eq!(fake.bodies("POST", "/replays").len(), 1, "it is started once");
}

#[tokio::test]
async fn an_interrupt_detaches_and_the_replay_goes_on() {
    let running = replay_of("running", 30, &json!({ "processed": 10 }));
    let fake = Fake::start(known([running])).await;
    let child =
        fake.command(&REPLAY).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| !fake.bodies("POST", "/replays").is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let interrupted = Instant::now();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ending = tokio::task::spawn_blocking(|| child.wait_with_output());
    let ran = CommandOutput::of(ending.await.unwrap().unwrap());
    check(&ran, 0, &[&format!("orderflow dlq replays watch {}", id(99))]);
    assert!(interrupted.elapsed() < Duration::from_secs(2));
    assert!(fake.bodies("POST", "/replays/").is_empty(), "nothing was cancelled");
}

#[tokio::test]
async fn a_paused_or_cancelled_replay_did_not_end_well() {
    let mut paused = replay_of("paused", 30, &json!({ "processed": 10, "failed": 3 }));
    paused["note"] = json!("3 failures");
    let fake = Fake::start(known([paused])).await;
    let expected = ["Replay paused (3 failures). 13 of 30 were settled", "replays resume"];
    check(&fake.run(&REPLAY).await, 1, &expected);
    let cancelled = replay_of("cancelled", 30, &json!({}));
    fake.known().progress = [cancelled].into();
    check(&fake.run(&REPLAY).await, 1, &["Replay cancelled. 0 of 30 were settled."]);
}

#[tokio::test]
async fn a_rehearsal_says_what_would_happen() {
    let outcomes = json!({ "processed": 20, "duplicate": 5, "superseded": 2, "failed": 3 });
    let mut done = replay_of("done", 30, &outcomes);
    done["rehearsal"] = json!(true);
    let fake = Fake::start(known([done])).await;
    let ran = fake.run(&["rehearse", "--group", "billing"]).await;
    let expected = "Of 30: 20 would be processed, 5 duplicates, 2 superseded, 3 would fail. Nothing was changed.";
    check(&ran, 1, &[expected]);
    let bodies = fake.bodies("POST", "/replays");
    assert_eq!((&bodies[0]["rehearse"], bodies[0].get("why")), (&json!(true), None));
}

#[tokio::test]
async fn what_the_service_refuses_is_told() {
    let fake = Fake::start(known([replay_of("done", 30, &json!({}))])).await;
    for (status, detail, exit) in [
        (404, "unknown group", 2),
        (409, "letter x is being replayed", 1),
        (422, "rate must be more than 0", 2),
        (503, "the database is unavailable for a moment", 1),
    ] {
        fake.known().refuses = Some((status, detail));
        let ran = fake.run(&REPLAY).await;
        check(&ran, exit, &[detail]);
        assert!(!ran.err.contains('{'), "raw JSON: {}", ran.err);
    }
}

#[tokio::test]
async fn nothing_to_replay_is_well() {
    let fake = Fake::start(Known::default()).await;
    check(&fake.run(&REPLAY).await, 0, &["No dead letters in billing to choose from."]);
    let ran = fake.run(&[&REPLAY[..], &["--json"]].concat()).await;
    check(&ran, 0, &["{\"group\":\"billing\",\"selected\":0}"]);
}

#[tokio::test]
async fn an_expired_letter_is_chosen_by_force_only() {
    let mut known = known([replay_of("done", 2, &json!({ "processed": 2 }))]);
    known.letters[0]["is_expired"] = json!(true);
    let fake = Fake::start(known).await;
    let dry_run = ["replay", "--group", "billing", "--dry-run"];
    check(&fake.run(&dry_run).await, 0, &["29 dead letters of billing:"]);
    let by_force = fake.run(&[&dry_run[..], &["--force"]].concat()).await;
    check(&by_force, 0, &["30 dead letters of billing:"]);
}

#[tokio::test]
async fn the_oldest_are_replayed_if_not_all_are_wanted() {
    let fake = Fake::start(known([replay_of("done", 2, &json!({ "processed": 2 }))])).await;
    let ran = fake.run(&[&REPLAY[..], &["--max", "2"]].concat()).await;
    check(&ran, 0, &["2 dead letters of billing:"]);
    assert_eq!(fake.bodies("POST", "/replays")[0]["ids"], json!([id(0), id(1)]));
}

#[tokio::test]
async fn letters_of_several_groups_are_no_selection() {
    let mut known = known([]);
    known.letters.push(letter_of("billing.2", 40, "dead"));
    let fake = Fake::start(known).await;
    let (one, other) = (id(1), id(40));
    let ran = fake.run(&["rehearse", "--id", &one, "--id", &other]).await;
    check(&ran, 2, &["is a letter of billing.2, not of billing"]);
    let ran = fake.run(&["rehearse", "--group", "billing", "--id", &other]).await;
    check(&ran, 2, &["is a letter of billing.2, not of billing"]);
}

#[tokio::test]
async fn replays_are_listed_shown_and_paused() {
    let mut running = replay_of("running", 30, &json!({ "processed": 10 }));
    running["rate"] = json!(2.5);
    let mut known = known([running.clone()]);
    known.replays = vec![running; 3];
    let fake = Fake::start(known).await;
    let ran = fake.run(&["replays", "--limit", "2"]).await;
    check(
        &ran,
        0,
        &["replay running", "by ada, 2.5 a second", "10 of 30: 10 processed", "There are more"],
    );
    let replay = id(99);
    check(&fake.run(&["replays", "show", &replay]).await, 0, &["10 of 30: 10 processed"]);
    let ran = fake.run(&["replays", "show", &replay, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["id"], *replay);

    check(&fake.run(&["replays", "pause", &replay]).await, 2, &["give --why"]);
    check(
        &fake.run(&["replays", "pause", &replay, "--why", "lunch"]).await,
        0,
        &["replay running"],
    );
    let bodies = fake.bodies("POST", &format!("/replays/{replay}/pause"));
    assert_eq!(bodies, [json!({ "why": "lunch" })]);
    fake.known().refuses = Some((409, "the replay is done"));
    let ran = fake.run(&["replays", "cancel", &replay, "--why", "w"]).await;
    check(&ran, 1, &["the replay is done"]);
    fake.known().progress = [replay_of("done", 30, &json!({ "processed": 30 }))].into();
    check(&fake.run(&["replays", "watch", &replay]).await, 0, &["All 30 ended well"]);
    fake.known().progress = [replay_of("queued", 30, &json!({}))].into();
    let waits = "queued: waits for an instance of billing, or for another replay";
    check(&fake.run(&["replays", "show", &replay]).await, 0, &[waits]);
}
