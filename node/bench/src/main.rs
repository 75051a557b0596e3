//! `ocelli bench`: the program `ocelli-bench`, which `ocelli` starts.
//!
//! A time says little by itself: each figure comes with that of a peer or a limit, measured in the same run on the same
//! machine, and with the ratio of the two.

mod block_maker;
mod full_blocks;
mod index;
mod inference;
mod layers;
mod mining;
mod network;
mod networks;
mod process;
mod requests;
mod runs;
mod store;
mod strangers;
mod sync;
mod template;
mod validate;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_program::{ERRORS_ONLY, Options, not_parsed};

/// Measure this machine: mining, validation and inference, each beside a peer or limit measured in the same run
#[derive(Debug, Parser)]
#[command(name = "ocelli-bench", bin_name = "ocelli bench", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mining(mining::Args),
    Validate(validate::Args),
    Inference(inference::Args),
    Layers(layers::Args),
    Store(store::Args),
    Index(index::Args),
    Network(network::Args),
    Template(template::Args),
    Sync(sync::Args),
    Requests(requests::Args),
    FullBlocks(full_blocks::Args),
    Networks(networks::Args),
    Weights(weights::Args),
    Strangers(strangers::Args),
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => {
            let mut output = cli.options.start(ERRORS_ONLY);
            ocelli_node::commands::report(run(&cli.command, &mut output))
        }
        Err(error) => not_parsed(&error),
    }
}

/// Fails for a device or a temporary folder that cannot be used, and for results that are not right: a wrong answer is no
/// figure, however fast.
fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::Mining(args) => mining::run(args, output),
        Command::Validate(args) => validate::run(args, output),
        Command::Inference(args) => inference::run(args, output),
        Command::Layers(args) => layers::run(args, output),
        Command::Store(args) => store::run(args, output),
        Command::Index(args) => index::run(args, output),
        Command::Network(args) => network::run(args, output),
        Command::Template(args) => template::run(args, output),
        Command::Sync(args) => sync::run(args, output),
        Command::FullBlocks(args) => full_blocks::run(args, output),
        Command::Requests(args) => requests::run(args, output),
        Command::Networks(args) => networks::run(args, output),
        Command::Weights(args) => weights::run(args, output),
        Command::Strangers(args) => strangers::run(args, output),
    }
}

/// The least of the values, in ascending order, that `percent` percent of them do not exceed (nearest rank); `None` of
/// none.
fn percentile<T>(ascending: &[T], percent: usize) -> Option<&T> {
    let rank = (ascending.len() * percent.min(100)).div_ceil(100);
    ascending.get(rank.saturating_sub(1))
}

/// For display: to three decimals.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        let rows: &[(&[u32], usize, Option<u32>)] = &[
            (&[], 50, None),
            (&[7], 0, Some(7)),
            (&[7], 50, Some(7)),
            (&[7], 99, Some(7)),
            (&[1, 2], 50, Some(1)),
            (&[1, 2], 51, Some(2)),
            (&[1, 2, 3], 50, Some(2)),
            (&[1, 2, 3, 4], 99, Some(4)),
            (&[1, 2, 3, 4], 101, Some(4)),
            (&hundred, 0, Some(1)),
            (&hundred, 1, Some(1)),
            (&hundred, 50, Some(50)),
            (&hundred, 99, Some(99)),
            (&hundred, 100, Some(100)),
        ];
        for (values, percent, expected) in rows {
            assert_eq!(percentile(values, *percent).copied(), *expected, "{percent} percent of {}", values.len());
        }
    }

    #[test]
    fn numbers_are_rounded_for_display() {
        for (number, expected) in [(0.0, 0.0), (1.000_4, 1.0), (1.000_6, 1.001), (12_345.678_9, 12_345.679)] {
            assert_eq!(rounded(number), expected);
        }
    }

    #[test]
    fn arguments_have_bounds() {
        let rows = [
            ("mining", true),
            ("mining --seconds 1 --threads 4", true),
            ("mining --seconds 0", false),
            ("mining --seconds 601", false),
            ("mining --threads 0", false),
            ("validate", true),
            ("validate --tasks 1 --runs 1 --device cpu", true),
            ("validate --tasks 0", false),
            ("validate --runs 0", false),
            ("validate --device abacus", false),
            ("inference", true),
            ("inference --seconds 2 --device cpu", true),
            ("inference --seconds many", false),
            ("layers --model cifar10-cnn --rounds 3", true),
            ("layers --rounds 0", false),
            ("store", true),
            ("store --blocks 1000 --device cpu", true),
            ("store --blocks 999", false),
            ("sync", true),
            ("sync --tasks 100 --tasks-a-block 7 --rounds 1 --device cpu", true),
            ("sync --tasks 0", false),
            ("sync --rounds 0", false),
            ("requests --blocks 2 --rate 1 --device cpu", true),
            ("requests --blocks 1", false),
            ("requests --rate 0", false),
            ("networks", true),
            ("networks --network resnet-50 --batch 8 --threads 1 --kernel portable --milliseconds 1", true),
            ("networks --write .", true),
            ("networks --batch 257", false),
            ("networks --threads 0", false),
            ("weights", true),
            ("weights --seconds 1 --seed 7 --worst 3 --kernel portable", true),
            ("weights --kernel mmx", false),
            ("weights --seconds 0", false),
            ("network", false),
            ("network --peer /ip4/127.0.0.1/tcp/1 --peer /ip4/127.0.0.1/tcp/2 --wallet dev --rate 1 --pid 1", true),
            ("network --peer /ip4/127.0.0.1/tcp/1 --senders 1025", false),
            ("network --peer /ip4/127.0.0.1/tcp/1 --rate 0", false),
            ("network --peer /ip4/127.0.0.1/tcp/1 --model person-96 --jpeg 224 --jpeg-bytes 25600", true),
            ("network --peer /ip4/127.0.0.1/tcp/1 --jpeg 4", false),
            ("network --peer /ip4/127.0.0.1/tcp/1 --jpeg-bytes 25600", false),
            ("chain", false),
            ("", false),
        ];
        for (line, is_good) in rows {
            let parsed = Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace()));
            assert_eq!(parsed.is_ok(), is_good, "{line}: {parsed:?}");
        }
    }
}
