//! The binary `notification`.

fn main() -> std::process::ExitCode {
    chassis::main("notification", notification::app::build)
}
