//! `third-party`: a stand-in for the outside world, in a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use playground::ThirdParty;
use tokio::signal::unix::{SignalKind, signal};

/// An inventory and receivers of webhooks, as slow and as broken as `PUT /behaviour` wants them.
#[derive(Parser)]
struct Arguments {
    /// Where it listens
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
