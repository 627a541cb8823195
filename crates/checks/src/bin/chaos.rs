//! The fault suite: `make chaos`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    checks::chaos::main().await
}
