use clap::Args;

/// Number of items in a list.
#[derive(Args)]
pub(crate) struct Amount {
    /// Maximum number of items to show
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Amount {
    pub(crate) fn limit(&self) -> usize {
        if self.all { usize::MAX } else { self.limit as usize }
    }
}
