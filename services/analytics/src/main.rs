//! The binary `analytics`.

fn main() -> std::process::ExitCode {
    chassis::main("analytics", analytics::app::build)
}
