use std::{
    io::{IsTerminal, Write, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Receives the progress of steps; several may run at once.
pub trait Progress: Send + Sync {
    /// Reports that `step` has started.
    fn started(&self, step: &str);
    /// Reports that `step` still runs, `so_far` after its start. Called a few times a second.
    fn report_running(&self, step: &str, so_far: Duration);
    /// Reports that `step` succeeded after `took`, with a description of its result.
    fn finished(&self, step: &str, took: Duration, outcome: &str);
    /// Reports that `step` failed, or was cancelled, after `took`. The error of the step has the
    /// reason.
    fn failed(&self, step: &str, took: Duration);
}

/// Runs a step and reports its progress. `outcome` describes the result.
///
/// # Errors
/// The error of `work`.
pub async fn step<T, E>(
    progress: &dyn Progress,
    name: &str,
    work: impl Future<Output = Result<T, E>>,
    outcome: impl FnOnce(&T) -> String,
) -> Result<T, E> {
    let mut running = Step { progress, name, start: Instant::now(), done: false };
    progress.started(name);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    tokio::pin!(work);
    let value = loop {
        tokio::select! {
            biased;
            result = &mut work => break result?,
            _ = tick.tick() => progress.report_running(name, running.start.elapsed()),
        }
    };
    running.done = true;
    progress.finished(name, running.start.elapsed(), &outcome(&value));
    Ok(value)
}

/// Reports the failure of a step, also if it is dropped because another one failed.
struct Step<'a> {
    progress: &'a dyn Progress,
    name: &'a str,
    start: Instant,
    done: bool,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.progress.failed(self.name, self.start.elapsed());
        }
    }
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str) {}
    fn report_running(&self, _: &str, _: Duration) {}
    fn finished(&self, _: &str, _: Duration, _: &str) {}
    fn failed(&self, _: &str, _: Duration) {}
}

/// Writes one line per step to standard error. On a terminal the last line shows the running steps
/// and their duration; elsewhere a step that takes longer than a second is announced by a line.
#[derive(Debug)]
pub struct Console {
    terminal: bool,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    step: String,
    so_far: Duration,
    announced: bool,
}

impl Console {
    /// Creates a console on standard error.
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal(), running: Mutex::default() }
    }

    /// Writes a line above the running steps.
    pub fn line(&self, text: &str) {
        self.update(|_| Some(text.to_owned()));
    }

    fn end(&self, step: &str, line: String) {
        self.update(|running| {
            running.retain(|other| other.step != step);
            Some(line)
        });
    }

    /// Changes the running steps, writes the line that `change` returns, and then the running
    /// steps.
    fn update(&self, change: impl FnOnce(&mut Vec<Running>) -> Option<String>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let line = change(&mut running);
        let mut text = String::from(if self.terminal { "\r\x1b[2K" } else { "" });
        text.extend(line.into_iter().flat_map(|line| [line, "\n".into()]));
        if self.terminal && !running.is_empty() {
            let steps: Vec<String> =
                running.iter().map(|one| format!("{} {}", one.step, seconds(one.so_far))).collect();
            text.extend(["  ", &steps.join(", "), " ..."]);
        }
        // A closed standard error must not stop the work.
        let _ = stderr().write_all(text.as_bytes());
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Console {
    fn started(&self, step: &str) {
        self.update(|running| {
            running.push(Running { step: step.into(), so_far: Duration::ZERO, announced: false });
            None
        });
    }

    fn report_running(&self, step: &str, so_far: Duration) {
        self.update(|running| {
            let one = running.iter_mut().find(|one| one.step == step)?;
            one.so_far = so_far;
            let announce = !self.terminal && !one.announced && so_far >= Duration::from_secs(1);
            one.announced |= announce;
            announce.then(|| format!("  {step} ..."))
        });
    }

    fn finished(&self, step: &str, took: Duration, outcome: &str) {
        self.end(step, format!("  {outcome} ({})", seconds(took)));
    }

    fn failed(&self, step: &str, took: Duration) {
        self.end(step, format!("  failed: {step} ({})", seconds(took)));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
