//! `egress`: in compose, the only connection from the services' network to the third party's.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long it waits after the system has run out of connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Forwards TCP connections to one address. Connections can only be opened in this direction.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on
    #[arg(long, env = "EGRESS_ADDR", default_value = "127.0.0.1:8090")]
    addr: SocketAddr,
    /// Where to forward connections, `host:port`
    #[arg(long, env = "EGRESS_TO")]
    to: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("egress: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(arguments.addr).await?;
    println!("forwarding {} to {}", arguments.addr, arguments.to);
    tokio::select! {
        () = forward(listener, &arguments.to) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn forward(listener: TcpListener, to: &str) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut from, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let to = to.to_owned();
        connections.spawn(async move {
            // If one end can't be reached or breaks off, the other is closed too. The caller needs
            // no other information.
            if let Ok(mut to) = TcpStream::connect(to).await {
                _ = copy_bidirectional(&mut from, &mut to).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
