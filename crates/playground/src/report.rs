//! Output of the commands.

use std::{
    io::{Write, stdout},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sandbox::{Console, Progress};

/// Writes a line to standard output. Ignores a closed output, because the process still has to stop
/// its child processes.
pub(crate) fn line(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// Writes a headline between empty lines.
pub(crate) fn heading(text: &str) {
    line(&format!("\n{text}\n"));
}

/// Writes names and values, one per line, with aligned values.
pub(crate) fn fields(fields: &[(&str, String)]) {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields {
        line(&format!("     {name:width$}   {value}"));
    }
}

/// Formats the place of a record.
pub(crate) fn place(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}, partition {partition}, offset {offset}")
}

/// Formats an amount in minor units of a currency with two decimal digits.
pub(crate) fn money(minor: i64, currency: &str) -> String {
    format!("{}.{:02} {currency}", minor / 100, minor % 100)
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// Shows a step once it has taken a second, because a quick one needs no line of its own.
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

    fn report_running(&self, step: &str, so_far: Duration) {
        if so_far >= Duration::from_secs(1) {
            if !self.shown.swap(true, Ordering::Relaxed) {
                self.console.started(step);
            }
            self.console.report_running(step, so_far);
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
