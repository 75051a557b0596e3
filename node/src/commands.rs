//! The command line: one file a command.
//!
//! Results go to stdout through one locked handle, progress, logs and errors to stderr. Exit codes: 0 ok, 1 failed,
//! 2 usage, 3 that the network follows rules which the program, or the node that was asked, does not know.

mod chain;
mod doctor;
mod evidence;
mod faucet;
mod folders;
mod model;
mod network;
mod network_model;
mod network_option;
pub mod node;
pub mod node_file;
mod peer_option;
mod peers;
mod picture;
mod pictures;
mod program;
mod status;
mod submit;
mod table;
mod top;
mod turn;
mod wallet;
pub mod wallet_option;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ocelli_program::{ERRORS_ONLY, Options, device_option, error, not_parsed, output};

use error::{Advice, CommandError, EXIT_OK};
use output::Printer;
use program::{Arguments, Program};

pub use wallet::{check_depth, too_little};

use crate::client::ClientError;
use crate::network::NetworkError;
use crate::node::NodeError;

/// What a node logs: what it does.
///
/// libp2p warns of every stream that a peer opens beyond its limit, thousands a second in a flood; Kademlia whenever it knows
/// no peer, which a node says itself, and with what to do.
const WHAT_A_NODE_DOES: &str =
    "warn,libp2p_kad=error,libp2p_request_response=error,ocelli_node=info,ocelli_protocol=info,ocelli_model=info";

/// See what is in pictures, together: a peer-to-peer network whose nodes agree, bit for bit, on every answer
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::Args),
    Status(status::Args),
    Top(top::Args),
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
    /// Measure this machine: mining, validation and inference, each beside a peer or limit measured in the same run
    Bench(Arguments),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let quiet = if matches!(cli.command, Command::Node(_)) { WHAT_A_NODE_DOES } else { ERRORS_ONLY };
            let mut output = cli.options.start(quiet);
            report(run(cli.command, &mut output))
        }
        Err(error) => match Program::of_help(&arguments[1..]) {
            Some(program) => report(program.start()),
            None => not_parsed(&error),
        },
    }
}

/// Tells what went wrong, if anything, with what is known of a node's errors, and gives the exit code.
pub fn report<T>(result: Result<T, CommandError>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::from(EXIT_OK),
        Err(error) => error.advised(advice).report(),
    }
}

fn run(command: Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::Node(args) => node::run(args),
        Command::Status(args) => status::run(&args, output),
        Command::Top(args) => top::run(&args),
        Command::Submit(args) => submit::run(&args, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Faucet(args) => faucet::run(&args, output),
        Command::Wallet(command) => wallet::run(command, output),
        Command::Model(command) => model::run(command, output),
        Command::Picture(command) => picture::run(&command, output),
        Command::Chain(command) => chain::run(&command, output),
        Command::Peers(command) => peers::run(&command, output),
        Command::Network(command) => network::run(&command, output),
        Command::Bench(_) => match Program::Bench.start()? {},
    }
}

fn advice(error: &(dyn Error + 'static)) -> Advice {
    let client = error.downcast_ref::<ClientError>();
    // The first two pass on the text of the network's error, and do not name it as their source.
    let network = match (client, error.downcast_ref::<NodeError>()) {
        (Some(ClientError::Network(error)), _) | (_, Some(NodeError::Network(error))) => Some(error),
        _ => error.downcast_ref::<NetworkError>(),
    };
    Advice {
        is_usage: matches!(network, Some(NetworkError::BadAddress { .. } | NetworkError::UnsupportedTransport { .. })),
        is_outdated: matches!(client, Some(ClientError::OtherVersion { .. })),
        hint: client.and_then(ClientError::hint).map(str::to_owned),
    }
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
