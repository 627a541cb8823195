//! The page `/flow` of `orderflow serve`: the flow as a picture and as text.

use std::process::Stdio;
use std::time::Duration;

use sandbox::testing::eventually;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::fake::{Known, Services};
use crate::story::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// `orderflow serve`, which ends with the test.
struct Console {
    port: u16,
    _process: Child,
}

impl Console {
    async fn start(services: &Services) -> Self {
        let port = sandbox::port::free().unwrap();
        let mut command = Command::from(services.orderflow(&["serve"]));
        command.env("CONSOLE_ADDR", format!("127.0.0.1:{port}")).env("LOG_FORMAT", "text");
        let process =
            command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let console = Self { port, _process: process.unwrap() };
        let answers = async || console.answer("healthz").await;
        eventually("an answer of serve", PATIENCE, answers).await;
        console
    }

    async fn answer(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/{path}", self.port)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Returns the page, which must exist.
    async fn page(&self, path: &str) -> String {
        let (status, page) = self.answer(path).await.unwrap();
        assert_eq!(status, 200, "{page}");
        assert!(!page.contains("style=") && !page.contains("<script>"), "{page}");
        page
    }
}

/// Returns the text of the tree, without its markup.
fn tree(page: &str) -> String {
    let (_, rest) = page.split_once("<pre class=\"tree\">").unwrap();
    let (tree, _) = rest.split_once("</pre>").unwrap();
    let mut text = String::new();
    for part in tree.split('<') {
        text += part.split_once('>').map_or(part, |(_, text)| text);
    }
    [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
        .iter()
        .fold(text, |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Returns the addresses of the steps in the picture.
fn links(page: &str) -> Vec<String> {
    let (_, svg) = page.split_once("<svg class=\"flow-picture\" xmlns").unwrap();
    let (svg, _) = svg.split_once("</svg>").unwrap();
    let links = svg.split("<a href=\"/").skip(1);
    links
        .map(|it| it.split_once('#').map_or(it, |_| it.split_once('"').unwrap().0))
        .map(|it| it.replace("&#38;", "&"))
        .collect()
}

#[tokio::test]
async fn a_flow_is_drawn_and_written_and_each_step_opens_without_a_script() {
    let services = Services::start(vec![order(), resolved(), notified_later(), analytics()]).await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    let printed = services.run(&["c-1"]).await.out;
    let (_, printed) = printed.split_once("\n\n").unwrap();
    let rows = |text: &str| {
        text.lines()
            .map(|it| it.trim_end().to_owned())
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&tree(&page)), rows(printed), "the text is that of the command");
    for lane in [
        "order",
        "outbox",
        "Kafka",
        "billing",
        "analytics",
        "notification",
        "jobs",
        "dead letters",
        "replays",
    ] {
        assert!(page.contains(&format!(">{lane}</text>")), "{lane}: {page}");
    }
    assert!(page.contains("role=\"img\"") && page.contains("<desc id=\"flow-desc\">"));
    let links = links(&page);
    assert!(links.len() >= 11, "{links:?}");
    for link in &links {
        let open = console.page(link.split('#').next().unwrap()).await;
        assert!(open.contains("<section id=\"step\""), "{link}: {open}");
        assert!(open.contains("As the service sent it"), "{link}");
    }
    assert!(console.page("flow?q=c-1&step=0000").await.contains("no such step"));
}

#[tokio::test]
async fn a_step_tells_its_attempts_and_links_to_what_can_be_done() {
    let services = Services::start(vec![order(), failed("dead"), analytics()]).await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    assert!(page.contains(&format!("/failures/letters/billing/{LETTER}")), "{page}");
    let (before, _) = page.split_once(">billing: dead-lettered after").unwrap();
    let key = before.rsplit_once("step=").unwrap().1.split_once('#').unwrap().0.to_owned();
    let open = console.page(&format!("flow?q=c-1&step={key}")).await;
    assert!(open.contains("<td class=\"num\">+512 ms</td>"), "{open}");
    assert_eq!(open.matches("does not exist</td>").count(), 4, "{open}");
    assert!(open.contains(&format!("/trace/{TRACE}")), "{open}");
}

#[tokio::test]
async fn an_order_is_followed_while_it_happens() {
    let mut known = well();
    known[2].steps.clear();
    known[3].steps.clear();
    let services = Services::start(known).await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    assert!(page.contains("data-poll=\"1\"") && page.contains("flow from:#live"), "{page}");
    assert_eq!(
        page.matches("class=\"missing\" x=").count(),
        3,
        "two in the picture, one in the legend: {page}"
    );
    services.known("notification").steps = notification().steps;
    services.known("analytics").inbox = vec![("analytics", "e-1")];
    let page = console.page("flow?q=c-1").await;
    assert_eq!(page.matches("class=\"missing\" x=").count(), 1, "{page}");
    assert!(page.contains("send-email: done"), "{page}");
}

#[tokio::test]
async fn what_does_not_answer_and_clocks_that_differ_are_named() {
    let mut known = well();
    known[1].ahead_ms = -5_050;
    let mut services = Services::start(known).await;
    services.0[2].stop().await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    for part in [
        "notification can&#39;t be reached",
        "the clock of billing is 5.0 s behind ours",
        ">billing</text>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn an_unknown_id_and_none_at_all_say_what_to_do() {
    let services = Services::start(vec![Known::new("order")]).await;
    services.known("order").correlation_ids.clear();
    let console = Console::start(&services).await;
    let page = console.page("flow?q=nobody").await;
    assert!(page.contains("Unknown id nobody") && page.contains("Check the id."), "{page}");
    assert!(
        page.contains("data-poll=\"1\""),
        "an order that is placed now appears by itself: {page}"
    );
    assert!(console.page("flow").await.contains("Search for an order id"));
    let (status, page) = console.answer("flow?q=..").await.unwrap();
    assert_eq!(status, 400);
    assert!(page.contains("can&#39;t be one"), "{page}");
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let mut order = order();
    let hostile = "\"><script>alert(1)</script>\u{1b}[2J\u{202e}";
    order.steps[0]["name"] = json!(hostile);
    order.steps[0]["error"] = json!(hostile);
    order.steps[0]["trace_id"] = json!("javascript:alert(1)");
    order.steps[1]["subject"] = json!(hostile);
    order.steps[2]["event_id"] = json!(hostile);
    order.open =
        vec![json!({ "kind": hostile, "reason": hostile, "since": "9999-12-31T23:59:59Z" })];
    let services = Services::start(vec![order]).await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    for link in links(&page) {
        let page = console.page(link.split('#').next().unwrap()).await;
        let is_text = |it: char| !it.is_control() || it == '\n';
        assert!(
            !page.contains("<script>") && page.chars().all(is_text) && !page.contains('\u{202e}'),
            "{page}"
        );
        assert!(!page.contains("href=\"javascript"), "{page}");
    }
    let page = console.page("flow?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(page.contains("&#60;script&#62;"), "{page}");
}

#[tokio::test]
async fn of_many_steps_those_that_repeat_are_counted_until_each_is_wanted() {
    let mut known = vec![order(), billing()];
    for number in 0..250_i64 {
        let more = json!({ "name": "run stamp", "job_id": number, "job_kind": "stamp", "attempt": 1, "outcome": "succeeded" });
        known[1].steps.push(step("job", 20 + number, 2, more));
    }
    let services = Services::start(known).await;
    let console = Console::start(&services).await;
    let page = console.page("flow?q=c-1").await;
    assert!(links(&page).len() < 20 && page.contains("249 like it"), "{page}");
    assert!(page.contains("href=\"/flow?q=c-1&#38;steps=all\""), "{page}");
    let all = console.page("flow?q=c-1&steps=all").await;
    assert!(links(&all).len() > 250);
}
