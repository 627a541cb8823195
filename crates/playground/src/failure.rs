//! An error with its context for the user.

use std::{
    error::Error as _,
    io::{Write, stderr},
};

use crate::Error;

/// An error, the step in which it occurred, and the last lines that the services had logged.
#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    error: Box<Error>,
    /// The name of each service, and the last lines of its log.
    logs: Vec<(String, String)>,
}

impl Failure {
    pub(crate) fn with_logs(self, logs: Vec<(String, String)>) -> Self {
        Self { logs, ..self }
    }

    /// Prints the step, the chain of causes, the logs and the advice to standard error.
    pub(crate) fn print(&self) {
        let mut text = vec![format!("\nplayground: could not {}", self.step)];
        text.push(format!("  {}", self.error));
        let mut cause = self.error.source();
        while let Some(error) = cause {
            text.push(format!("  because: {error}"));
            cause = error.source();
        }
        for (service, log) in &self.logs {
            text.push(format!("\nlast lines of the log of {service}:\n{log}"));
        }
        if let Some(advice) = self.error.advice() {
            text.push(format!("\nNext: {advice}"));
        }
        let _ = stderr().write_all((text.join("\n") + "\n").as_bytes());
    }
}

/// Adds the step in which an error occurred.
pub(crate) trait StepContext<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> StepContext<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step: step.into(),
            error: Box::new(error.into()),
            logs: Vec::new(),
        })
    }
}
