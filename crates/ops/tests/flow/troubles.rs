//! `orderflow flow` with unreachable services, wrong clocks, or an unknown id.

use serde_json::json;

use crate::fake::{Known, Services};
use crate::output::CommandOutput;
use crate::story::*;

#[track_caller]
fn has(ran: &CommandOutput, status: i32, parts: &[&str]) {
    let text = format!("{}{}", ran.out, ran.err);
    assert_eq!(ran.status, Some(status), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_service_that_can_not_be_reached_is_named_above_and_below_and_the_rest_is_shown() {
    let mut services = Services::start(well()).await;
    services.0[2].stop().await;
    let ran = services.run(&["c-1"]).await;
    has(&ran, 1, &["billing: processed", "state    1 problem"]);
    let named = "notification can't be reached";
    let lines: Vec<_> = ran.out.lines().collect();
    let tree = lines.iter().position(|line| line.is_empty()).unwrap();
    assert!(lines[..tree].iter().any(|line| line.contains(named)), "{}", ran.out);
    assert!(
        lines.last().unwrap().contains("missing here") || ran.out.ends_with("status`\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.matches(named).count(), 2, "{}", ran.out);
}

#[tokio::test]
async fn an_older_release_and_a_part_that_could_not_be_read_are_named() {
    let mut known = well();
    known[1].problem = Some((404, "unknown path"));
    known[2].instead = json!({ "unavailable": ["jobs: pool timed out"] });
    let services = Services::start(known).await;
    let ran = services.run(&["c-1"]).await;
    has(
        &ran,
        1,
        &["billing can't be reached", "unknown path", "could not read its jobs: pool timed out"],
    );
}

#[tokio::test]
async fn an_unknown_id_says_what_to_do_next() {
    let services = Services::start(vec![Known::new("order"), Known::new("billing")]).await;
    for fake in &services.0 {
        fake.known().correlation_ids.clear();
    }
    let ran = services.run(&["nobody"]).await;
    assert_eq!(ran.out, "");
    has(
        &ran,
        2,
        &[
            "orderflow: unknown id nobody\n",
            "Next: check the id; steps are kept a day, dead letters and jobs longer",
        ],
    );
    let json = services.run(&["nobody", "--json"]).await;
    has(&json, 2, &["\"state\": \"unknown\""]);
}

#[tokio::test]
async fn an_id_that_nothing_is_known_of_may_be_known_where_nobody_answers() {
    let mut services = Services::start(vec![Known::new("order"), Known::new("billing")]).await;
    services.known("order").correlation_ids.clear();
    services.0[1].stop().await;
    has(&services.run(&["c-1"]).await, 1, &["unknown id c-1", "billing can't be reached"]);
}

#[tokio::test]
async fn an_id_that_can_be_none_is_refused() {
    let services = Services::start(vec![order()]).await;
    for id in ["", ".", "..", "a\nb"] {
        has(&services.run(&[id]).await, 2, &["the id is empty, or can't be one"]);
    }
    assert!(services.known("order").requests.is_empty());
    services.known("order").problem = Some((400, "the id is longer than 200 bytes"));
    has(&services.run(&["x"]).await, 2, &["the id is longer than 200 bytes"]);
    has(&services.run(&["c-1", "--follow", "--json"]).await, 2, &["cannot be used with"]);
}

#[tokio::test]
async fn times_of_a_clock_that_differs_are_corrected_and_never_negative() {
    let mut known = vec![order(), billing(), analytics()];
    known[0].steps.remove(1);
    known[1].ahead_ms = -5050;
    for (step, ms) in known[1].steps.iter_mut().zip([2080, 2120, 2130]) {
        step["started_at"] = json!(at(ms - 5050));
    }
    // Also if it began before its cause, by a clock whose difference is tolerated.
    known[2].steps[0]["started_at"] = json!(at(-200));
    let services = Services::start(known).await;
    let ran = services.run(&["c-1"]).await;
    has(&ran, 0, &["the clock of billing is 5.0 s behind ours; its times are corrected"]);
    let begins = |start: &str| ran.out.lines().any(|line| line.starts_with(start));
    assert!(begins("    2.0 s  billing      └ billing: processed"), "{}", ran.out);
    assert!(begins("     0 ms  analytics  "), "{}", ran.out);
    assert!(!ran.out.lines().any(|line| line.trim_start().starts_with('-')), "{}", ran.out);
}

#[tokio::test]
async fn if_all_clocks_differ_by_the_same_it_is_ours() {
    let mut known = well();
    for known in &mut known {
        known.ahead_ms = 90_500;
    }
    let services = Services::start(known).await;
    let ran = services.run(&["c-1"]).await;
    has(&ran, 0, &["this machine's clock is 1.5 min behind all services'", "took 42 ms"]);
    assert_eq!(ran.out.matches("clock").count(), 1, "{}", ran.out);
}

#[tokio::test]
async fn what_makes_the_picture_incomplete_is_said() {
    let mut known = well();
    known[0].instead = json!({ "recording": false });
    known[1].instead = json!({ "lost": 12 });
    known[2].instead = json!({ "truncated": true });
    let services = Services::start(known).await;
    let notes = [
        "order records no steps (FLOW_STEPS=off)",
        "billing has lost 12 steps since its start",
        "notification has more steps than shown",
    ];
    has(&services.run(&["c-1"]).await, 0, &notes);
}

#[tokio::test]
async fn help_has_an_example_and_the_exit_statuses() {
    let services = Services::start(vec![order()]).await;
    has(
        &services.run(&["--help"]).await,
        0,
        &["Example:", "orderflow flow 9f3c", "Exit status:\n  0  the flow is complete"],
    );
}
