//! The command line of `ocelli-train`: one file a command. Its user knows it as `ocelli model`, which starts it.

mod check;
mod evaluate;
mod export;
mod import;
mod quantize;
mod train;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ocelli_picture::Input;
use ocelli_program::error::{CommandError, EXIT_OK, Explain as _};
use ocelli_program::model_export::ExportArgs;
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use ocelli_program::{ERRORS_ONLY, Options, not_parsed};

use crate::dataset::{Dataset, Part};
use crate::plots::Plot;

/// Names at most so many unreadable files on stderr; `--json` has them all.
const MAX_SKIPPED_SHOWN: usize = 20;

/// Make and measure models: the way from a folder of pictures, or a TFLite or ONNX file, to exact integers
#[derive(Debug, Parser)]
#[command(name = "ocelli-model", bin_name = "ocelli model", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Quantize(quantize::Args),
    Evaluate(evaluate::Args),
    Import(import::Args),
    Check(check::Args),
    Export(ExportArgs),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    match run(&cli.command, &mut cli.options.start(ERRORS_ONLY)) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => error.report(),
    }
}

fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::Train(args) => train::run(args, output),
        Command::Quantize(args) => quantize::run(args, output),
        Command::Evaluate(args) => evaluate::run(args, output),
        Command::Import(args) => import::run(args, output),
        Command::Check(args) => check::run(args, output),
        Command::Export(args) => export::run(args, output),
    }
}

/// Reads labelled pictures, and tells on stderr what could not be read.
fn read_data(path: &Path, part: Part, input: impl Into<Input>) -> Result<Dataset, CommandError> {
    let progress = bar(None, "{spinner} reading pictures: {pos}");
    let data = Dataset::read(path, part, input, &mut |files| progress.set_position(files as u64));
    progress.finish_and_clear();
    let data = data.hint(
        || "give a folder, .tar or .tar.gz of class folders, such as train/cat/1.jpg, or CIFAR-10's binary batches",
    )?;
    for text in data.notes() {
        note(&format!("note: {text}"))?;
    }
    for skipped in data.skipped().iter().take(MAX_SKIPPED_SHOWN) {
        note(&format!("warning: {}: {}", skipped.name, skipped.reason))?;
    }
    if !data.skipped().is_empty() {
        note(&format!("warning: {} files gave no picture and were passed over", data.skipped().len()))?;
    }
    let empty = data.empty_classes();
    if !empty.is_empty() {
        note(&format!("warning: found no readable picture in the class folders {}", empty.join(", ")))?;
    }
    Ok(data)
}

/// Writes drawings into a folder, made if it is not there.
fn write_plots(folder: &Path, plots: &[Plot]) -> Result<(), CommandError> {
    fs::create_dir_all(folder).context(|| format!("cannot make the folder {}", folder.display()))?;
    plots.iter().try_for_each(|plot| write_result(&folder.join(plot.file), plot.svg.as_bytes()))
}

/// A progress bar on stderr, if that is a terminal.
fn bar(length: Option<u64>, template: &'static str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if let Some(length) = length {
        bar.set_length(length);
    }
    bar.with_style(ProgressStyle::with_template(template).expect("the templates are constants, and each was drawn"))
}

/// Writes a line to stderr.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}

/// Writes a line about a running work to stderr: above its bar, if there is one.
fn note_above(bar: &ProgressBar, text: &str) -> io::Result<()> {
    if io::stderr().is_terminal() {
        bar.println(text);
        return Ok(());
    }
    note(text)
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
