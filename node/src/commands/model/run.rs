//! `ocelli model run`.

use std::path::PathBuf;
use std::slice;

use ocelli_model::picture::{MAX_PICTURE_BYTES, to_pixels};
use ocelli_program::input_file::read_bounded;
use ocelli_program::model_option::{ModelOption, load};
use serde::Serialize;

use super::super::error::CommandError;
use super::super::output::Output;
use super::DeviceOption;

/// How many classes of a picture are shown to people.
const SHOWN: usize = 3;

/// Say what is in pictures, here and now, without a network
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pictures: PNG, JPEG, WebP, GIF or BMP
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelOption,

    #[command(flatten)]
    device: DeviceOption,
}

/// What is printed of one picture.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    label: String,
    /// Of the label, 0 to 1, rounded to 6 decimals: for display.
    probability: f64,
    logits: Vec<i32>,
}

/// Runs the command.
///
/// # Errors
/// For a model, a device or pictures that cannot be used; no picture is run then.
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let model = load(&args.model.model)?;
    let mut pixels = Vec::new();
    let mut problems = Vec::new();
    for path in &args.images {
        let picture = read_bounded(path, MAX_PICTURE_BYTES)
            .map_err(CommandError::from)
            .and_then(|bytes| Ok(to_pixels(&bytes, model.graph().input())?));
        match picture {
            Ok(picture) => pixels.push(picture),
            Err(error) => problems.push(format!("{}: {}", path.display(), error.one_line())),
        }
    }
    if !problems.is_empty() {
        return Err(CommandError::failed(format!(
            "{} of {} pictures cannot be used",
            problems.len(),
            args.images.len()
        ))
        .with_causes(problems)
        .with_hint("give PNG, JPEG, WebP, GIF or BMP files that you may read"));
    }
    let mut backend = args.device.open(slice::from_ref(&model))?;
    let images: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
    let logits = backend.logits(&model, &images)?;
    let mut answers = Vec::new();
    for (path, logits) in args.images.iter().zip(logits) {
        let label = model.label(&logits);
        let probabilities = model.probabilities(&logits);
        let answer = Answer {
            file: path.display().to_string(),
            label: model.classes()[label].clone(),
            probability: (probabilities[label] * 1e6).round() / 1e6,
            logits,
        };
        if !output.is_json() {
            let shown = model.best(&answer.logits, SHOWN).into_iter();
            let classes: Vec<String> = shown
                .map(|class| format!("{} {:.1} %", model.classes()[class], probabilities[class] * 100.0))
                .collect();
            output.line(format_args!("{}: {}", answer.file, classes.join(", ")))?;
        }
        answers.push(answer);
    }
    if output.is_json() { output.json(&answers) } else { Ok(()) }
}
