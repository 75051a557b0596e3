//! The `ocelli-train` binary.

fn main() -> std::process::ExitCode {
    ocelli_train::commands::main()
}
