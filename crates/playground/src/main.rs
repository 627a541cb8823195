//! `playground`: the system on this machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    playground::main()
}
