//! Runs the commands of the tour and compares their output: `make tour`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    checks::tour::main().await
}
