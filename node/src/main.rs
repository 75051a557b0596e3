//! The `ocelli` binary.

fn main() -> std::process::ExitCode {
    ocelli_node::commands::main()
}
