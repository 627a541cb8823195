//! `orderflow completions`, help, and colour.

use crate::fake::{Fake, Known, check, orderflow};
use crate::output::run;
use crate::terminal::on_a_terminal;

#[tokio::test]
async fn each_shell_gets_a_script_that_knows_the_commands() {
    let fake = Fake::start(Known::default()).await;
    for shell in ["bash", "zsh", "fish"] {
        let ran = fake.orderflow(&["completions", shell]).await;
        check(&ran, 0, &["orderflow", "subscriptions", "rehearse", "fingerprint"]);
    }
    check(&fake.orderflow(&["completions", "tcsh"]).await, 2, &["invalid value 'tcsh'"]);
    let help = fake.orderflow(&["--help"]).await;
    check(&help, 0, &["Exit status:", "orderflow status", "ORDERFLOW_SERVICES"]);
}

#[tokio::test]
async fn bash_takes_the_script_and_completes_by_it() {
    let fake = Fake::start(Known::default()).await;
    let script = fake.orderflow(&["completions", "bash"]).await.out;
    let complete = "COMP_WORDS=(orderflow jobs re) COMP_CWORD=2; _orderflow orderflow re jobs; echo \"${COMPREPLY[@]}\"";
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euc", &format!("{script}\n{complete}")]);
    let ran = run(bash).await;
    assert_eq!((ran.status, &*ran.out), (Some(0), "retry\n"), "{ran:?}");
}

#[tokio::test]
async fn colour_is_for_terminals_that_want_it() {
    let fake = Fake::start(Known::default()).await;
    let piped = fake.orderflow(&["subscriptions"]).await;
    assert!(!piped.out.contains('\u{1b}'), "{piped:?}");
    let command = |no_color: &str, term: &str| {
        let mut command = orderflow(&[("billing", fake.address)], &["subscriptions"]);
        // Set in CI; it must make no difference.
        command.env("NO_COLOR", no_color).env("TERM", term).env("CI", "true");
        command
    };
    let (_, shown) = on_a_terminal(command("", "xterm"), "").await;
    assert!(shown.contains("billing: \u{1b}[32mrunning\u{1b}[0m"), "{shown:?}");
    for (no_color, term) in [("1", "xterm"), ("", "dumb")] {
        let (_, shown) = on_a_terminal(command(no_color, term), "").await;
        assert!(shown.contains("billing: running"), "{shown:?}");
    }
}
