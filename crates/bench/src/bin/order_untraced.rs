//! The order service without a subscriber of `tracing`: no log lines, no spans, no ids of traces.

use std::error::Error;

use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<(), Box<dyn Error>> {
    let config: order::Config = settings::parse(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let running = order::app::build(config).start().await?;
        terminate.recv().await;
        running.shutdown().await;
        Ok(())
    })
}
