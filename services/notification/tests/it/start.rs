use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the output of the program when it fails to start with these variables.
fn start_error(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notification"));
    for name in ["SMTP_URL", "MAIL_DIR", "MAIL_FROM"] {
        command.env_remove(name);
    }
    let mut started = command
        .env("DATABASE_URL", "postgres://nobody:nothing@127.0.0.1:1/nowhere")
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("TENANTS", "demo-acme=acme")
        .args(["--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does start waits for its database, and is killed.
    let began = Instant::now();
    while started.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20));
    }
    let _ = started.kill();
    let output = started.wait_with_output().unwrap();
    assert!(!output.status.success(), "{variables:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn without_one_way_for_its_e_mails_it_does_not_start_and_names_the_variable() {
    for (variables, named) in [
        (&[][..], "SMTP_URL is not set"),
        (&[("SMTP_URL", ""), ("MAIL_DIR", "")], "SMTP_URL is not set"),
        (&[("SMTP_URL", "smtp://localhost"), ("MAIL_DIR", "/tmp")], "MAIL_DIR can't be used"),
        (&[("SMTP_URL", "mail.example.com")], "SMTP_URL can't be used"),
        (&[("MAIL_DIR", "/tmp"), ("MAIL_FROM", "nobody")], "MAIL_FROM"),
    ] {
        let error = start_error(variables);
        assert!(error.contains(named), "{variables:?}: {error}");
    }
}

#[test]
fn a_schedule_or_a_retention_that_makes_no_sense_is_named() {
    for (variables, named) in [
        (&[("WEBHOOK_RETRIES", "soon")][..], "--webhook-retries"),
        (&[("WEBHOOK_RETRIES", "5s,60d")], "WEBHOOK_RETRIES can't be used"),
        (&[("DELIVERY_RETENTION", "1d")], "DELIVERY_RETENTION can't be used"),
        (&[("EMAIL_RETENTION", "1h")], "EMAIL_RETENTION can't be used"),
        (&[("WEBHOOK_DISABLE_AFTER", "never")], "--webhook-disable-after"),
    ] {
        let variables = [variables, &[("MAIL_DIR", "/tmp")]].concat();
        let variables = &variables[..];
        let error = start_error(variables);
        assert!(error.contains(named), "{variables:?}: {error}");
    }
}
