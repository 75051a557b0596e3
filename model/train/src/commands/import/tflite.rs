//! `ocelli model import` of a TFLite file.

use ocelli_model::display::MAX_CARD;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use serde_json::json;

use super::{Args, for_each, names, printable, read_text};
use crate::commands::note;
use crate::tflite::{Imported, Pixels, TfliteError, import};

/// Runs the command.
///
/// # Errors
/// For a network that is not quantised as ours are, or has an operator that has no counterpart.
pub fn run(args: &Args, bytes: &[u8], output: &mut Printer) -> Result<(), CommandError> {
    if args.calibration.is_some() {
        return Err(CommandError::usage(
            "found --calibration, expected none with a TFLite file, whose numbers are taken as they are",
        )
        .with_hint("leave it out"));
    }
    let failed = || format!("cannot import {}", args.file.display());
    let imported = read(args, bytes).map_err(|error| error.with_context(failed()))?;
    let logits = imported.graph.logits();
    let classes = match &args.classes {
        Some(path) => for_each(logits, names(path)?, path)?,
        None => {
            note("the classes are numbered; --classes FILE names them")?;
            (0..logits).map(|class| class.to_string()).collect()
        }
    };
    let file = args.file.file_name().unwrap_or_default().to_string_lossy();
    let card = match &args.card {
        Some(path) => read_text(path, MAX_CARD)?,
        None => format!("Imported from {}, a TFLite file. {}", printable(&file), imported.description),
    };
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = args.name.clone().unwrap_or(stem);
    let model = imported.model(name, classes, card).map_err(|error| explain(error).with_context(failed()))?;
    output.leave_stdout_to(&args.output);
    write_result(&args.output, model.bytes())?;
    let (file, id, bytes) = (args.output.display().to_string(), model.id().to_string(), model.bytes().len());
    if output.is_json() {
        return output.json(&json!({ "file": file, "id": id, "bytes": bytes, "range": imported.range }));
    }
    output.line(format_args!("{file}: {bytes} bytes, model {id}"))?;
    output.rows(&[
        ("layers", imported.graph.layers().len().to_string()),
        ("classes", logits.to_string()),
        ("cost", format!("{} integer operations an image", model.cost())),
    ])
}

/// Reads the file, and says on stderr how pixels reach the network.
fn read(args: &Args, bytes: &[u8]) -> Result<Imported, CommandError> {
    let (mean, deviation) = (args.mean.clone(), args.std.clone());
    let pixels = Pixels { scale: args.scale, mean, deviation, crop: args.crop };
    let imported = import(bytes, &pixels).map_err(explain)?;
    let [black, white] = imported.range;
    note(&format!(
        "pixels of 0 to 255 are {black:.4} to {white:.4} to the network; --scale, --mean and --std say otherwise"
    ))?;
    if imported.has_halves() {
        note(
            "LiteRT rounds halves in AVERAGE_POOL_2D away from zero, and Ocelli to even: a few logits may differ by it",
        )?;
    }
    Ok(imported)
}

/// Adds what to try.
pub fn explain(error: TfliteError) -> CommandError {
    let hint = match &error {
        TfliteError::Operator { fault, .. } | TfliteError::Input { fault } | TfliteError::Output { fault } => {
            fault.hint
        }
        TfliteError::NotTflite | TfliteError::Broken { .. } => "convert or download the file again",
        TfliteError::Graph(_) | TfliteError::Model(_) => {
            "a layer's name ends in the number of its operator; `docs/inference.md` says what is refused"
        }
        TfliteError::TooLarge { .. } | TfliteError::Pixels { .. } => return error.into(),
    };
    CommandError::from(error).with_hint(hint)
}
