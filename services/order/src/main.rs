//! The binary `order`. [`order::app`] assembles the service.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main("order", order::app::build)
}
