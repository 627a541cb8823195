//! How it is said.

use std::{
    error::Error as _,
    io::{Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sandbox::{Console, Progress};

use crate::error::Failure;

/// Writes a line to standard output. That nobody reads any more is no reason to leave things undone.
pub(crate) fn line(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// A headline, set off.
pub(crate) fn heading(text: &str) {
    line(&format!("\n{text}\n"));
}

/// Names and values, one a line, the values below each other.
pub(crate) fn fields(fields: &[(&str, String)]) {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields {
        line(&format!("     {name:width$}   {value}"));
    }
}

/// Where a record lies.
pub(crate) fn place(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}, partition {partition}, offset {offset}")
}

/// Minor units of a currency that has 100 of them.
pub(crate) fn money(minor: i64, currency: &str) -> String {
    format!("{}.{:02} {currency}", minor / 100, minor % 100)
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// What went wrong, in which step, why, what was logged, and what to do next.
pub(crate) fn failure(failure: &Failure) {
    let mut text = vec![format!("\norderflow: could not {}", failure.step)];
    text.push(format!("  {}", failure.error));
    let mut cause = failure.error.source();
    while let Some(error) = cause {
        text.push(format!("  because: {error}"));
        cause = error.source();
    }
    for (service, log) in &failure.logs {
        text.push(format!("\n{service} logged at last:\n{log}"));
    }
    if let Some(advice) = failure.error.advice() {
        text.push(format!("\nNext: {advice}"));
    }
    let _ = stderr().write_all((text.join("\n") + "\n").as_bytes());
}

/// Shows a step only once it has taken a second; what is done at once needs no line of its own.
pub(crate) struct OnlyIfSlow<'a> {
    console: &'a Console,
    shown: AtomicBool,
}

impl<'a> OnlyIfSlow<'a> {
    pub(crate) fn new(console: &'a Console) -> Self {
        Self { console, shown: AtomicBool::new(false) }
    }
}

impl Progress for OnlyIfSlow<'_> {
    fn started(&self, _: &str) {}

    fn goes_on(&self, step: &str, so_far: Duration) {
        if so_far >= Duration::from_secs(1) {
            if !self.shown.swap(true, Ordering::Relaxed) {
                self.console.started(step);
            }
            self.console.goes_on(step, so_far);
        }
    }

    fn finished(&self, step: &str, took: Duration, outcome: &str) {
        if self.shown.load(Ordering::Relaxed) {
            self.console.finished(step, took, outcome);
        }
    }

    fn failed(&self, step: &str, took: Duration) {
        if self.shown.load(Ordering::Relaxed) {
            self.console.failed(step, took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_digits_after_the_point() {
        assert_eq!(money(4_205, "EUR"), "42.05 EUR");
        assert_eq!(money(7, "USD"), "0.07 USD");
    }

    #[test]
    fn milliseconds_have_one_digit_after_the_point() {
        assert_eq!(milliseconds(Duration::from_micros(6_249)), "6.2 ms");
    }
}
