//! `orderflow dlq` on a terminal: questions, and progress on a line that is rewritten.

use serde_json::json;

use crate::fake::{Fake, Known, letter_of, replay_of};
use crate::terminal::on_a_terminal;

async fn with_a_letter() -> Fake {
    let progress = [
        replay_of("running", 30, &json!({ "processed": 10 })),
        replay_of("running", 30, &json!({ "processed": 20 })),
        replay_of("done", 30, &json!({ "processed": 30 })),
    ];
    let letters = vec![letter_of("billing", 1, "dead")];
    Fake::start(Known { letters, progress: progress.into(), ..Known::default() }).await
}

#[tokio::test]
async fn a_replay_is_asked_for_with_its_reason_and_shown_in_one_line() {
    let fake = with_a_letter().await;
    let command = fake.command(&["replay", "--group", "billing"]);
    let (status, shown) = on_a_terminal(command, "y\nit is fixed\n").await;
    assert_eq!(status, Some(0), "{shown}");
    for part in [
        "Replay 1 dead letter of billing? [y/N] ",
        "Why?",
        "\r\u{1b}[K\u{1b}[?7l20 of 30: 20 processed\u{1b}[?7h\r\u{1b}[K\u{1b}[?7l30 of 30",
        "All 30 ended well",
    ] {
        assert!(shown.contains(part), "{part:?}: {shown:?}");
    }
    assert_eq!(fake.bodies("POST", "/replays")[0]["why"], "it is fixed");
}

#[tokio::test]
async fn whatever_is_not_yes_sends_nothing() {
    let fake = with_a_letter().await;
    let replay = &["replay", "--group", "billing", "--why", "w"][..];
    let discard = &["discard", "--group", "billing", "--all", "--why", "w"];
    // Control-D is the end of input.
    for (arguments, typed) in
        [(replay, "n\n"), (replay, "\n"), (replay, "\u{4}"), (discard, "no\n")]
    {
        let (status, shown) = on_a_terminal(fake.command(arguments), typed).await;
        assert_eq!(status, Some(1), "{shown}");
        assert!(shown.contains("Nothing was "), "{shown}");
    }
    let (status, shown) =
        on_a_terminal(fake.command(&["replay", "--group", "billing"]), "y\n\n").await;
    assert_eq!(status, Some(2), "{shown}");
    assert!(shown.contains("a reason is needed"), "{shown}");
    assert!(fake.bodies("POST", "/").is_empty());
}
