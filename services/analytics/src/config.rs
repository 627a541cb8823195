use clap::Parser;

/// What the service is told at start, by flags or environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "analytics", about = "Counts orders and revenue")]
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
