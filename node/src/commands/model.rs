//! `ocelli model`.

mod evaluate;
mod export;
mod import;
mod inspect;
mod list;
mod quantize;
mod run;
mod train;

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_model::dataset::{Dataset, Part};
use ocelli_model::file::MAX_FILE_BYTES;
use ocelli_model::plots::Plot;
use ocelli_model::{Model, Shape, zoo};

use super::device_option::DeviceOption;
use super::error::{CommandError, Explain as _};
use super::output::Output;
use crate::output_file::{self, Readers};

/// The model that is used where none is named.
pub(super) const DEFAULT_MODEL: &str = "cifar10-cnn";

/// Names at most so many unreadable files on stderr; `--json` has them all.
const MAX_SKIPPED_SHOWN: usize = 20;

/// Make, measure and use models: the whole way from a folder of pictures to exact integers
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Train(train::Args),
    Quantize(quantize::Args),
    Evaluate(evaluate::Args),
    Inspect(inspect::Args),
    List(list::Args),
    Run(run::Args),
    Export(export::Args),
    Import(import::Args),
}

/// Which model.
#[derive(Debug, clap::Args)]
pub struct ModelOption {
    /// The model: a name that is built in, or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    model: String,
}

/// Runs the command.
///
/// # Errors
/// For files that cannot be read or written, or are not what they should be, and devices that cannot be used.
pub fn run(command: Command, output: &mut Output) -> Result<(), CommandError> {
    match command {
        Command::Train(args) => train::run(&args, output),
        Command::Quantize(args) => quantize::run(&args, output),
        Command::Evaluate(args) => evaluate::run(&args, output),
        Command::Inspect(args) => inspect::run(&args, output),
        Command::List(args) => list::run(&args, output),
        Command::Run(args) => run::run(&args, output),
        Command::Export(args) => export::run(&args, output),
        Command::Import(args) => import::run(&args, output),
    }
}

/// Loads a model by its name, or from its file.
pub(super) fn load(name: &str) -> Result<Model, CommandError> {
    if let Some(model) = zoo::get(name) {
        return Ok(model);
    }
    let path = Path::new(name);
    if !path.exists() && !name.contains(['/', '\\', '.']) {
        return Err(CommandError::failed(format!(
            "found no model `{name}`, expected {} or a model file",
            zoo::names().join(", ")
        ))
        .with_hint("`ocelli model list` shows the models that are built in"));
    }
    let bytes = read_bounded(path, MAX_FILE_BYTES).context(|| format!("cannot read the model file {name}"))?;
    Model::from_bytes(&bytes)
        .context(|| format!("{name} is not a model that nodes run"))
        .hint(|| "give a file that `ocelli model quantize` or `ocelli model export` wrote")
}

/// Reads labelled pictures, and tells on stderr what could not be read.
fn read_data(path: &Path, part: Part, shape: Shape) -> Result<Dataset, CommandError> {
    let progress = bar(None, "{spinner} reading pictures: {pos}");
    let data = Dataset::read(path, part, shape, &mut |files| progress.set_position(files as u64));
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

/// Reads a file; one byte more than allowed, so that whoever looks at it sees that it is too large.
pub(super) fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file: a regular one is there whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    output_file::write(path, bytes, Readers::Umask).context(|| format!("cannot write {}", path.display()))
}

/// Writes drawings into a folder, made if it is not there.
fn write_plots(folder: &Path, plots: &[Plot]) -> Result<(), CommandError> {
    fs::create_dir_all(folder).context(|| format!("cannot make the folder {}", folder.display()))?;
    plots.iter().try_for_each(|plot| write_whole(&folder.join(plot.file), plot.svg.as_bytes()))
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
    use super::*;

    #[test]
    fn an_unknown_model_names_the_known_ones() {
        let text = load("resnet-1000").unwrap_err().to_string();
        assert!(text.contains("resnet-1000") && text.contains("cifar10-cnn") && text.contains("hint"), "{text}");
        let text = load("./missing.safetensors").unwrap_err().to_string();
        assert!(text.contains("cannot read the model file ./missing.safetensors"), "{text}");
    }
}
