//! The command line: one file a command.
//!
//! Results go to stdout through one locked handle, progress, logs and errors to stderr. Exit codes: 0 ok, 1 failed,
//! 2 usage.

mod bench;
mod chain;
mod device_option;
mod doctor;
mod error;
mod faucet;
mod folders;
mod model;
mod network;
mod network_option;
pub mod node;
mod node_file;
mod output;
mod peer_option;
mod peers;
mod picture;
mod status;
mod submit;
mod wallet;
mod wallet_option;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use error::{CommandError, EXIT_OK, EXIT_USAGE};
use output::{Format, Output};

use crate::signals;

/// See what is in pictures, together: a peer-to-peer network whose nodes agree, bit for bit, on every answer
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print results as JSON, for scripts
    #[arg(long, global = true)]
    json: bool,

    /// Log more to stderr; RUST_LOG, if set, decides instead
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::Args),
    Status(status::Args),
    Submit(submit::Args),
    Faucet(faucet::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Wallet(wallet::Command),
    #[command(subcommand)]
    Model(model::Command),
    #[command(subcommand)]
    Picture(picture::Command),
    #[command(subcommand)]
    Chain(chain::Command),
    #[command(subcommand)]
    Peers(peers::Command),
    #[command(subcommand)]
    Network(network::Command),
    #[command(subcommand)]
    Bench(bench::Command),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout, mistakes to stderr; there is nobody to tell that either is closed.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_OK });
        }
    };
    start_log(&cli);
    // If the system refuses, a limit on the size of files ends the program, as it does by default.
    drop(signals::survive_file_size_limit());
    let mut output = Output::lock(if cli.json { Format::Json } else { Format::Text });
    match run(cli.command, &mut output) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => error.report(),
    }
}

fn run(command: Command, output: &mut Output) -> Result<(), CommandError> {
    match command {
        Command::Node(args) => node::run(args),
        Command::Status(args) => status::run(&args, output),
        Command::Submit(args) => submit::run(&args, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Faucet(args) => faucet::run(&args, output),
        Command::Wallet(command) => wallet::run(command, output),
        Command::Model(command) => model::run(command, output),
        Command::Picture(command) => picture::run(&command, output),
        Command::Chain(command) => chain::run(&command, output),
        Command::Peers(command) => peers::run(&command, output),
        Command::Network(command) => network::run(&command, output),
        Command::Bench(command) => bench::run(&command, output),
    }
}

/// Logs to stderr. A node says what it does; the other commands only what goes wrong.
///
/// Kademlia warns whenever it knows no peer, which a node says itself, and with what to do.
fn start_log(cli: &Cli) {
    let default = match (&cli.command, cli.verbose) {
        (_, true) => "info,libp2p_kad=error,ocelli_node=debug,ocelli_protocol=debug,ocelli_model=debug",
        // libp2p warns of every stream that a peer opens beyond its limit, thousands a second in a flood.
        (Command::Node(_), false) => {
            "warn,libp2p_kad=error,libp2p_request_response=error,ocelli_node=info,ocelli_protocol=info,ocelli_model=info"
        }
        (_, false) => "error",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // What it would say on stderr about a stderr that is gone (a closed terminal or pipe) would end the node.
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
