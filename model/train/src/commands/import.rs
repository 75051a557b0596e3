//! `ocelli model import`.

pub mod tflite;

use std::io;
use std::path::{Path, PathBuf};

use ocelli_model::display::MAX_CARD;
use ocelli_model::graph::MAX_CROP;
use ocelli_model::{DeviceChoice, backend};
use ocelli_picture::Input;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::input_file::read_bounded;
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use serde_json::json;

use super::{bar, note, read_data};
use crate::dataset::{Dataset, DatasetError, Part, composed};
use crate::onnx::{MAX_ONNX_BYTES, OnnxError, OnnxNetwork, Preprocessing, import};
use crate::quantize::{Imported, Naming, Pictures, quantize_imported};
use crate::tflite::is_tflite;

/// How many pictures activations are measured on, and as many again choose between ways to clip.
const PICTURES: usize = 2_000;
/// What chooses these pictures.
const SEED: u64 = 1;
/// Bounds a file of class names.
const MAX_CLASSES_BYTES: usize = 1 << 20;

/// Make an exact integer model of an image classifier in a TFLite file of int8, or in an ONNX file, as PyTorch and Keras export it
///
/// A TFLite file of full-integer int8 is taken as it is, without pictures: the logits are LiteRT's. An ONNX network that is
/// quantised to 8 bits already (QuantizeLinear and DequantizeLinear, or QLinearConv and others) keeps its integers, and needs no
/// pictures. A float network is calibrated with some. Read are convolutions of any groups, linear layers, batch normalisation,
/// pools, additions, products and joins of activations, and functions of each element. What else is in the file is refused by name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The TFLite or ONNX file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Pictures to calibrate a float network with, such as those it was trained on: a folder, .tar or .tar.gz of class
    /// folders or of CIFAR-10's binary batches. Their classes are only counted by
    #[arg(long, value_name = "PATH")]
    calibration: Option<PathBuf>,

    /// The model file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// A text file with the name of a class on each line, in the order of the network's outputs [default: the names in
    /// the data, sorted; for a TFLite file numbers]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,

    /// What a pixel, 0 to 255, is multiplied by before the network reads it [default: 1 if the network scales pixels itself,
    /// else 1/255; of a TFLite file, pixels are the bytes that it reads]
    #[arg(long, value_name = "NUMBER")]
    scale: Option<f64>,

    /// What is then subtracted, one number for each channel or for all, as torchvision's Normalize does [default: 0]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Vec<f64>,

    /// What it is divided by after that [default: 1]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    std: Vec<f64>,

    /// How much of a picture's sides the network is shown, in 256ths: 224 where pictures are resized to 256 and 224 are cut out
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CROP, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_CROP)))]
    crop: u16,

    /// The model's name [default: the file's to write, without its ending]
    #[arg(long)]
    name: Option<String>,

    /// A text file that describes the model, to be kept in it [default: where it was imported from]
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// For a file that is no ONNX classifier of the supported layers, pictures that do not fit it, and a network that cannot be
/// made exact.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    // Once, as a pipe has its bytes only once.
    let bytes =
        read_bounded(&args.file, MAX_ONNX_BYTES).context(|| format!("cannot import {}", args.file.display()))?;
    if is_tflite(&bytes) {
        return tflite::run(args, &bytes, output);
    }
    let imported = read(args, &bytes)?;
    let data = match &args.calibration {
        Some(path) => {
            let input = Input { crop: args.crop.into(), ..imported.input().into() };
            Some(read_data(path, Part::Train, input)?)
        }
        None if imported.needs_pictures() => {
            return Err(CommandError::failed(
                "the file gives no integers for some activations, expected pictures to measure them on",
            )
            .with_hint("give some that it was trained on, with --calibration PATH"));
        }
        None => None,
    };
    let classes = classes(args, &imported, data.as_ref())?;
    let halves = data.as_ref().map(halves);
    let pictures = halves.as_ref().map(|(calibration, validation)| Pictures { calibration, validation });
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = args.file.file_name().unwrap_or_default().to_string_lossy();
    let card = match &args.card {
        Some(path) => read_text(path, MAX_CARD)?,
        None => format!("Imported from {}, an ONNX file of {}.", printable(&file), printable(&imported.producer)),
    };
    let naming = Naming { name: args.name.clone().unwrap_or(stem), card };
    let failed = || format!("cannot import {}", args.file.display());
    let (mut device, _) = backend::open(DeviceChoice::Cpu)?;
    let progress = bar(None, "{bar:30} {pos}/{len} runs of a picture, {per_sec}, {eta} left");
    let quantized = quantize_imported(&imported.network, classes, &naming, args.crop, pictures, &mut *device, &|now| {
        progress.set_length(now.total as u64);
        progress.set_position(now.done as u64);
    });
    progress.finish_and_clear();
    let quantized = quantized.context(failed)?;
    output.leave_stdout_to(&args.output);
    write_result(&args.output, quantized.model.bytes())?;
    print(args, &imported, &quantized, output)
}

fn print(args: &Args, imported: &OnnxNetwork, made: &Imported, output: &mut Printer) -> Result<(), CommandError> {
    let Imported { model, report } = made;
    let (file, id, bytes) = (args.output.display().to_string(), model.id().to_string(), model.bytes().len());
    if output.is_json() {
        return output.json(&json!({
            "file": file, "id": id, "bytes": bytes, "scale": imported.scale, "report": report,
        }));
    }
    output.line(format_args!("{file}: {bytes} bytes, model {id}"))?;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut rows = vec![
        ("layers", model.graph().layers().len().to_string()),
        ("with the file's integers", report.given.to_string()),
        ("cost", format!("{} integer operations an image", model.cost())),
    ];
    let shares = [
        ("label of the float network, half of the pictures", report.same_labels),
        ("float accuracy, half of the pictures", report.float_accuracy),
        ("integer accuracy, half of the pictures", report.integer_accuracy),
    ];
    rows.extend(shares.into_iter().filter_map(|(name, share)| Some((name, percent(share?)))));
    output.rows(&rows)
}

/// Reads the file, and says on stderr how pixels reach the network.
fn read(args: &Args, bytes: &[u8]) -> Result<OnnxNetwork, CommandError> {
    let read = || format!("cannot import {}", args.file.display());
    let folder = args.file.parent().unwrap_or(Path::new(""));
    let mut open = |name: &str| {
        let bytes = read_bounded(&folder.join(name), MAX_ONNX_BYTES)?;
        if bytes.len() > MAX_ONNX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_ONNX_BYTES} bytes")));
        }
        Ok(bytes)
    };
    let preprocessing = Preprocessing { scale: args.scale, mean: args.mean.clone(), deviation: args.std.clone() };
    let imported = import(bytes, &preprocessing, &mut open).map_err(|error| explain(error).with_context(read()))?;
    if args.scale.is_none() && !imported.reads_bytes {
        note(&if imported.scale == 1.0 {
            "the network scales pixels itself: it gets them as 0 to 255; --scale says otherwise".to_owned()
        } else {
            "the network gets pixels as 0 to 1; give --scale 1 if it was trained on 0 to 255".to_owned()
        })?;
    }
    Ok(imported)
}

fn explain(error: OnnxError) -> CommandError {
    let hint = error.hint();
    CommandError::from(error).with_hint(hint)
}

/// The names of the classes: those of a file, or of the data.
fn classes(args: &Args, imported: &OnnxNetwork, data: Option<&Dataset>) -> Result<Vec<String>, CommandError> {
    let (classes, source) = match (&args.classes, data) {
        (Some(path), _) => (names(path)?, path.as_path()),
        (None, Some(data)) => (data.classes().to_vec(), args.calibration.as_deref().unwrap_or(Path::new(""))),
        (None, None) => (Vec::new(), Path::new("no file")),
    };
    let classes = for_each(imported.logits(), classes, source)?;
    if let Some(DatasetError::UnknownClass { class, .. }) = data.and_then(|data| data.labels_among(&classes).err()) {
        note(&format!(
            "note: the class {class:?} of the pictures is none of the network's, so what is right is not counted"
        ))?;
    }
    Ok(classes)
}

/// The names in a text file, a line each.
fn names(path: &Path) -> Result<Vec<String>, CommandError> {
    let text = read_text(path, MAX_CLASSES_BYTES)?;
    Ok(text.lines().map(str::trim).filter(|name| !name.is_empty()).map(composed).collect())
}

/// The names, if there is one for each logit.
fn for_each(logits: usize, classes: Vec<String>, source: &Path) -> Result<Vec<String>, CommandError> {
    if classes.len() == logits {
        return Ok(classes);
    }
    let found = format!(
        "found {} classes in {}, expected {logits} as the network has outputs",
        classes.len(),
        source.display()
    );
    Err(CommandError::failed(found)
        .with_hint("name the classes in the order of the network's outputs, with --classes FILE"))
}

/// A text file, without the byte order mark that some editors begin with.
fn read_text(path: &Path, limit: usize) -> Result<String, CommandError> {
    let read = || format!("cannot read {}", path.display());
    let text = String::from_utf8(read_bounded(path, limit).context(read)?).context(read)?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Two sets of pictures of their own, or twice the same where there are too few.
fn halves(data: &Dataset) -> (Dataset, Dataset) {
    let (calibration, validation) = data.split(0.5, SEED);
    if validation.is_empty() {
        return (calibration.clone(), calibration);
    }
    (calibration.sample(PICTURES, SEED), validation.sample(PICTURES, SEED))
}

/// A name from outside, without what a card may not hold.
fn printable(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(100).collect()
}
