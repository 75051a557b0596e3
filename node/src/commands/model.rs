//! `ocelli model`.

mod export;
mod fetch;
mod inspect;
mod list;
mod publish;
mod run;

use ocelli_program::model_export::ExportArgs;

use super::device_option::DeviceOption;
use super::error::CommandError;
use super::output::Printer;
use super::program::{Arguments, Program};

/// Make, measure, use and publish models: the whole way from a folder of pictures to exact integers that a network runs
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Train a network on labelled pictures; `model quantize` then makes a model of it
    Train(Arguments),
    /// Make an exact integer model of trained weights
    Quantize(Arguments),
    /// Count how often a model is right on labelled pictures
    Evaluate(Arguments),
    Inspect(inspect::Args),
    List(list::Args),
    Run(run::Args),
    Export(ExportArgs),
    Publish(publish::Args),
    Fetch(fetch::Args),
    /// Make an exact integer model of an image classifier in a TFLite file of int8, or in an ONNX file
    Import(Arguments),
    /// Compare a model's logits, bit for bit, with those of ONNX Runtime or LiteRT
    Check(Arguments),
}

/// Runs the command.
///
/// # Errors
/// For files that cannot be read or written, or are not what they should be, and devices that cannot be used.
pub fn run(command: Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::Train(_) | Command::Quantize(_) | Command::Evaluate(_) | Command::Import(_) | Command::Check(_) => {
            match Program::Train.start()? {}
        }
        Command::Inspect(args) => inspect::run(&args, output),
        Command::List(args) => list::run(&args, output),
        Command::Run(args) => run::run(&args, output),
        Command::Export(args) => export::run(&args, output),
        Command::Publish(args) => publish::run(&args, output),
        Command::Fetch(args) => fetch::run(&args, output),
    }
}
