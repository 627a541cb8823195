//! The tour, walked by a program: `make tour`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    checks::tour::main().await
}
