//! `orderflow flow --follow` prints new lines, and no line twice.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::fake::Services;
use crate::story::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_appended_until_everything_has_come() {
    let mut known = well();
    known[2].steps.clear();
    known[3].steps.clear();
    let services = Services::start(known).await;
    let mut command = services.command(&["c-1", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first: Vec<_> = tokio::task::block_in_place(|| {
        lines.by_ref().take_while(|line| !line.contains("deferred acknowledge")).collect()
    });
    assert!(first.iter().any(|line| line.contains("analytics: expected")), "{first:#?}");
    services.known("notification").steps = notification().steps;
    services.known("analytics").inbox = vec![("analytics", "e-1")];
    let (rest, status) =
        tokio::task::spawn_blocking(move || (lines.collect::<Vec<_>>(), child.wait().unwrap()))
            .await
            .unwrap();
    let mut news: Vec<_> = rest.iter().map(|line| line.trim()).collect();
    news.sort_unstable();
    let wanted = [
        "12 ms  analytics     analytics: order.completed processed (its step was not",
        "18 ms  notification  notification: invoice.issued processed             3 ms",
        "22 ms  notification  job send-email: done                              20 ms",
    ];
    assert_eq!(
        news.iter().filter(|it| !it.starts_with("kept)")).copied().collect::<Vec<_>>(),
        wanted
    );
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn ctrl_c_ends_it_with_the_state_of_the_last_look() {
    let mut known = well();
    known[3].steps.clear();
    let services = Services::start(known).await;
    let mut child = services.command(&["c-1", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let status = tokio::task::spawn_blocking(move || {
        assert!(lines.any(|line| line.contains("deferred acknowledge")));
        let id = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        child.wait().unwrap()
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn an_id_that_stays_unknown_ends_it() {
    let services = Services::start(vec![order()]).await;
    *services.known("order") =
        crate::fake::Known { correlation_ids: vec![], ..crate::fake::Known::new("order") };
    let ran = services.run(&["c-1", "--follow"]).await;
    assert_eq!((ran.status, &*ran.out), (Some(2), ""), "{ran:?}");
    assert!(services.known("order").requests.len() > 3);
}
