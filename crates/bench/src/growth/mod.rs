//! Measures how cost grows: the same work with more consumers, instances, rows or partitions.

mod consumers;
mod inbox;
mod instances;
mod outbox;
mod partitions;

use std::fs;
use std::process::ExitCode;

use clap::ValueEnum;
use sandbox::Console;
use serde::Serialize;

use crate::report::quantile;
use crate::servers::Bench;
use crate::{Fallible, Size};

const FILE: &str = "target/bench-growth.json";

/// Curves, in the order of measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Name {
    Consumers,
    Instances,
    Inbox,
    Outbox,
    Partitions,
}

/// The rates at several sizes. A higher rate is better.
#[derive(Serialize)]
struct Curve {
    name: &'static str,
    unit: &'static str,
    points: Vec<Point>,
}

/// The median rate at one size, and the rate of each round.
#[derive(Serialize)]
struct Point {
    size: u32,
    median: f64,
    rounds: Vec<f64>,
}

impl Curve {
    /// Creates a curve from the sizes, each with the rates of its rounds.
    fn new(name: &'static str, unit: &'static str, measured: Vec<(u32, Vec<f64>)>) -> Self {
        let point = |(size, rounds): (u32, Vec<f64>)| {
            let median = quantile(rounds.clone(), 0.5);
            Point { size, median, rounds }
        };
        Self { name, unit, points: measured.into_iter().map(point).collect() }
    }
}

/// Measures the curves, prints them and writes `target/bench-growth.json`.
pub(crate) async fn run(
    bench: &Bench,
    size: Size,
    only: &[Name],
    console: &Console,
) -> Fallible<ExitCode> {
    let (mut curves, mut errors) = (Vec::new(), Vec::new());
    for name in Name::value_variants() {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let progress = |line: &str| console.line(&format!("  {line}"));
        match measure(*name, bench, size, &progress).await {
            Ok(measured) => curves.extend(measured),
            Err(error) => {
                console.line(&format!("  failed: {name:?}: {error}"));
                errors.push(format!("{name:?}: {error}"));
            }
        }
    }
    for Curve { name, unit, points } in &curves {
        println!("\n{name}, {unit}");
        let first = points.first().map_or(f64::NAN, |it| it.median);
        for Point { size, median, .. } in points {
            println!("{size:>12} {median:>10.0} {:>6.2}", median / first);
        }
    }
    fs::create_dir_all("target")?;
    fs::write(FILE, serde_json::to_vec_pretty(&curves)?)?;
    println!("\n{FILE} has the rounds.");
    for error in &errors {
        println!("error in {error}");
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(
    name: Name,
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    match name {
        Name::Consumers => consumers::measure(bench, size, progress).await,
        Name::Instances => instances::measure(bench, size, progress).await,
        Name::Inbox => inbox::measure(bench, size, progress).await,
        Name::Outbox => outbox::measure(bench, size, progress).await,
        Name::Partitions => partitions::measure(bench, size, progress).await,
    }
}
