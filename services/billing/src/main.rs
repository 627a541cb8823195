//! The binary `billing`.

fn main() -> std::process::ExitCode {
    chassis::main("billing", billing::app::build)
}
