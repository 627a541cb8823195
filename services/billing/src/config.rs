use clap::Parser;

/// Configuration of the service, by flags or environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "billing", about = "Issues the invoices of completed orders")]
pub struct Config {
    /// Configuration that every service has.
    #[command(flatten)]
    pub chassis: chassis::Config,
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}
