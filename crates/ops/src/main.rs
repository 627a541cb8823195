//! `orderflow`, the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    ops::main()
}
