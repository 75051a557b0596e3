//! `ocelli picture`.

use std::path::PathBuf;

use ocelli_model::Attachment;
use ocelli_model::picture::MAX_PICTURE_BYTES;
use ocelli_picture::{Input, WHOLE};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::input_file::read_bounded;
use ocelli_program::model_option::{DEFAULT_MODEL, load};
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use serde::Serialize;

use crate::json::{FormName, PICTURE_HINT, Picture};

/// See what a task would carry of a picture
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Check(CheckArgs),
}

/// Say what would be sent of a picture and why, and what the model would see
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The picture: PNG, JPEG, WebP, GIF or BMP
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The model: a name that is built in, or a model file [default: cifar10-cnn]
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "size")]
    model: Option<String>,

    /// Any model that takes so many rows and columns in colour
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    size: Option<u16>,

    /// Write the pixels that the model would see, as PNG
    #[arg(long, short, value_name = "PIXELS.png")]
    output: Option<PathBuf>,
}

/// What is printed of a picture.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    #[serde(flatten)]
    picture: Picture,
    /// What the model takes: channels, height, width.
    input: [usize; 3],
}

/// Runs the command.
///
/// # Errors
/// For a picture or a model that cannot be used, and an output that cannot be written.
pub fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    let Command::Check(args) = command;
    let input = match args.size.map(usize::from) {
        Some(side) => Input { channels: 3, height: side, width: side, crop: WHOLE },
        None => load(args.model.as_deref().unwrap_or(DEFAULT_MODEL))?.graph().input().into(),
    };
    let name = args.file.display().to_string();
    let file = read_bounded(&args.file, MAX_PICTURE_BYTES).context(|| format!("cannot read {name}"))?;
    let attachment =
        Attachment::from_file(&file, input).context(|| format!("{name} cannot be sent")).hint(|| PICTURE_HINT)?;
    if let Some(path) = &args.output {
        output.leave_stdout_to(path);
        write_result(path, &attachment.to_png(input)?)?;
    }
    let picture = Picture::new(file.len(), &attachment, (input.width, input.height));
    let report = Report { file: name, picture, input: [input.channels, input.height, input.width] };
    if output.is_json() {
        return output.json(&report);
    }
    let Report { file, picture, .. } = report;
    let kind = if picture.form == FormName::Jpeg { "JPEG" } else { "pixels" };
    output.line(format_args!("{file}: would be sent as {}", picture.what))?;
    output.line(format_args!("  file   {} bytes, SHA-256 {}", picture.file_bytes, picture.file_sha256))?;
    output.line(format_args!(
        "  sent   {} bytes, {kind} {}x{}, SHA-256 {}",
        picture.bytes, picture.width, picture.height, picture.sha256
    ))?;
    let [channels, height, width] = report.input;
    output.line(format_args!("  seen   {width}x{height}, {}", if channels == 1 { "grey" } else { "colour" }))
}
