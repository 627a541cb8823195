use clap::Parser;

/// What the service is told at start, by flags or environment.
#[derive(Clone, Debug, Parser)]
#[command(name = "order", about = "Takes orders over HTTP and says what became of them")]
pub struct Config {
    /// What every service is told.
    #[command(flatten)]
    pub chassis: chassis::Config,
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}
