use chassis::ConfigError;
use clap::Parser;

/// Configuration, read at start from flags or the environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "analytics", about = "Counts orders and revenue")]
pub struct Config {
    /// Configuration that every service has.
    #[command(flatten)]
    pub chassis: chassis::Config,
    /// Generations of the basket to consume, `1,2`
    #[arg(long, env = "BASKET_GENERATIONS", value_delimiter = ',', default_value = "1")]
    pub basket_generations: Vec<u16>,
    /// The generation to serve [default: the first]
    #[arg(long, env = "BASKET_SERVED")]
    pub basket_served: Option<u16>,
}

impl Config {
    /// Creates a configuration with these common settings and defaults for all others.
    pub fn new(chassis: chassis::Config) -> Self {
        Self { chassis, basket_generations: vec![1], basket_served: None }
    }

    /// Returns the generation of the basket to serve, and whether the setting is valid.
    pub(crate) fn served(&self) -> (u16, Result<(), ConfigError>) {
        let fed = &self.basket_generations;
        let served = self.basket_served.or(fed.first().copied()).unwrap_or(1);
        let twice = fed.iter().enumerate().any(|(at, it)| fed[..at].contains(it));
        if fed.contains(&0) || twice {
            let why = "numbers from 1, each once, are wanted".to_owned();
            return (served, Err(ConfigError::Invalid("BASKET_GENERATIONS", why)));
        }
        if !fed.contains(&served) {
            let why = format!("generation {served} is none of BASKET_GENERATIONS");
            return (served, Err(ConfigError::Invalid("BASKET_SERVED", why)));
        }
        (served, Ok(()))
    }
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}
