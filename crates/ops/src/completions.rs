//! `orderflow completions`: prints a shell's completion script.

use std::io::Write;

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell as Target, generate};

use crate::error::{Failure, StepContext};
use crate::output::Output;

/// The arguments of `orderflow completions`.
#[derive(Args)]
#[command(after_help = "Examples:
  source <(orderflow completions bash)
  orderflow completions zsh >\"${fpath[1]}/_orderflow\"
  orderflow completions fish >~/.config/fish/completions/orderflow.fish")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for the shell.
pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<u8, Failure> {
    let shell = match arguments.shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    // Generated into memory, because the generator panics if its writer fails.
    let mut script = Vec::new();
    generate(shell, &mut command, "orderflow", &mut script);
    Output::stdout().write_all(&script).during("print the completions")?;
    Ok(0)
}
