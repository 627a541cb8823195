//! `third-party`: simulates external systems, in a separate process.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use playground::ThirdParty;
use tokio::signal::unix::{SignalKind, signal};

/// Simulates an inventory and webhook receivers, whose latency and failures `PUT /behaviour` sets.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on
    #[arg(long, env = "HTTP_ADDR", default_value = "127.0.0.1:8090")]
    addr: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse().addr).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("third-party: {error}");
            if let Some(cause) = error.source() {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let third_party = ThirdParty::listen(address).await?;
    println!("listening on {}", third_party.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
