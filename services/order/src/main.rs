//! The service `order`. All that it has is listed in [`order::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main("order", order::app::build)
}
