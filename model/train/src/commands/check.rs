//! `ocelli model check`.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use ocelli_model::picture::{MAX_PICTURE_BYTES, to_pixels};
use ocelli_model::{Backend, Model, golden};
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::input_file::read_bounded;
use ocelli_program::model_export::WeightType;
use ocelli_program::model_option::load;
use ocelli_program::output::Printer;
use serde::Serialize;

use super::import::tflite::explain;
use super::{bar, note};
use crate::export::to_onnx;
use crate::runtime::{Job, Runtime, RuntimeError, RuntimeKind};
use crate::tflite::{self, MAX_TFLITE_BYTES, Pixels, is_tflite};

/// How many pictures are run at once.
const BATCH: usize = 16;
/// The most pictures of a folder.
const MAX_PICTURES: usize = 100_000;
/// The deepest folder in a folder of pictures.
const MAX_DEPTH: usize = 16;

/// Compare a model's logits, bit for bit, with those of ONNX Runtime or LiteRT
///
/// Runs both on pictures, the other through a Python that has it (`pip install onnxruntime`, `pip install ai-edge-litert`), and
/// says how many logits differ and where the first one does. LiteRT runs a TFLite file as it is, beside the model that it
/// is imported as; ONNX Runtime runs what `model export` writes. Fails if a logit differs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: a name that is built in, a model file, or a TFLite file
    #[arg(value_name = "NAME|FILE")]
    model: String,

    /// What to compare with [default: litert for a TFLite file, else onnxruntime]
    #[arg(long)]
    with: Option<RuntimeKind>,

    /// A folder of pictures, at any depth [default: noise, patterns, and plain black and white]
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,

    /// The Python that has the runtime
    #[arg(long, value_name = "PROGRAM", env = "PYTHON", default_value = "python3")]
    python: String,

    #[command(flatten)]
    device: DeviceOption,
}

/// What is compared, and how the other runtime gets it.
struct Pair {
    model: Model,
    /// The file that it runs.
    file: Vec<u8>,
    /// What it gets for each pixel; nothing where that is the pixel.
    given: Vec<Vec<f32>>,
    /// What its numbers are counted from.
    zero_point: i32,
    /// Why it may differ in some.
    reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    id: String,
    runtime: String,
    version: String,
    device: String,
    pictures: usize,
    logits: usize,
    differing: usize,
    first: Option<Difference>,
}

/// A logit that is not the same.
#[derive(Debug, Serialize)]
struct Difference {
    picture: String,
    class: usize,
    class_name: String,
    /// Ours.
    found: i32,
    /// The other runtime's.
    other: i32,
}

/// Runs the command.
///
/// # Errors
/// For a model, a runtime or pictures that cannot be used, and if a logit differs.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let (pair, kind) = pair(args)?;
    let model = &pair.model;
    let mut backend = args.device.open(slice::from_ref(model))?;
    let mut runtime = Runtime::start(kind, &args.python).map_err(|error| explain_runtime(error, kind))?;
    let mut report = Report {
        model: if model.name().is_empty() { args.model.clone() } else { model.name().to_owned() },
        id: model.id().to_string(),
        runtime: kind.to_string(),
        version: runtime.version.clone(),
        device: backend.name(),
        pictures: 0,
        logits: 0,
        differing: 0,
        first: None,
    };
    match &args.pictures {
        None => {
            let inputs = golden::inputs(model.pixels()).into_iter().enumerate();
            let named: Vec<_> = inputs.map(|(index, pixels)| (format!("input {index}"), pixels)).collect();
            compare(&pair, &named, &mut *backend, &mut runtime, &mut report)
                .map_err(|error| explain_pair(error, kind))?;
        }
        Some(folder) => of_folder(&pair, folder, &mut *backend, &mut runtime, &mut report, kind)?,
    }
    print(&report, output)?;
    if report.differing == 0 {
        return Ok(());
    }
    let failed = CommandError::failed(format!("{} of {} logits differ", report.differing, report.logits));
    Err(failed.with_hint(pair.reason.unwrap_or(match kind {
        RuntimeKind::OnnxRuntime => {
            "take a current ONNX Runtime: `docs/inference.md` says which versions compute the same"
        }
        RuntimeKind::LiteRt => {
            "take a current LiteRT, with XNNPACK: `docs/inference.md` says which versions compute the same"
        }
    })))
}

/// Loads the model, and makes what the other runtime runs.
fn pair(args: &Args) -> Result<(Pair, RuntimeKind), CommandError> {
    let path = Path::new(&args.model);
    let bytes = if path.is_file() {
        let read = || format!("cannot read {}", path.display());
        Some(read_bounded(path, MAX_TFLITE_BYTES).context(read)?).filter(|bytes| is_tflite(bytes))
    } else {
        None
    };
    let Some(bytes) = bytes else {
        let model = load(&args.model)?;
        return match args.with {
            None | Some(RuntimeKind::OnnxRuntime) => Ok((as_onnx(model), RuntimeKind::OnnxRuntime)),
            Some(RuntimeKind::LiteRt) => {
                Err(CommandError::failed(format!("{} is no TFLite file, and LiteRT runs nothing else", args.model))
                    .with_hint("give the TFLite file that it was imported from, or --with onnxruntime"))
            }
        };
    };
    let failed = || format!("cannot import {}", args.model);
    let imported = tflite::import(&bytes, &Pixels::default()).map_err(|error| explain(error).with_context(failed()))?;
    let classes = (0..imported.graph.logits()).map(|class| class.to_string()).collect();
    let model = imported.model(String::new(), classes, String::new());
    let model = model.map_err(|error| explain(error).with_context(failed()))?;
    if args.with == Some(RuntimeKind::OnnxRuntime) {
        return Ok((as_onnx(model), RuntimeKind::OnnxRuntime));
    }
    let reason = imported.has_halves().then_some(
        "LiteRT rounds halves in AVERAGE_POOL_2D away from zero, and Ocelli to even; a MEAN in its place is the same in both",
    );
    let zero_point = imported.zero_point();
    let file = tflite::ending_with(&bytes, imported.logits)?;
    Ok((Pair { model, file, given: imported.given, zero_point, reason }, RuntimeKind::LiteRt))
}

fn as_onnx(model: Model) -> Pair {
    let file = to_onnx(&model, WeightType::U8);
    Pair { model, file, given: Vec::new(), zero_point: 0, reason: None }
}

/// Runs the pictures of a folder, a batch at a time.
fn of_folder(
    pair: &Pair,
    folder: &Path,
    backend: &mut dyn Backend,
    runtime: &mut Runtime,
    report: &mut Report,
    kind: RuntimeKind,
) -> Result<(), CommandError> {
    let mut files = Vec::new();
    find(folder, 0, &mut files)?;
    files.sort();
    let progress = bar(Some(files.len() as u64), "{bar:30} {pos}/{len} pictures, {eta} left");
    for batch in files.chunks(BATCH) {
        let mut named = Vec::new();
        for path in batch {
            let picture = read_bounded(path, MAX_PICTURE_BYTES)
                .map_err(CommandError::from)
                .and_then(|bytes| Ok(to_pixels(&bytes, pair.model.graph().input())?));
            match picture {
                Ok(pixels) => named.push((path.display().to_string(), pixels)),
                Err(error) => {
                    progress.suspend(|| note(&format!("warning: {}: {}", path.display(), error.one_line())))?
                }
            }
        }
        compare(pair, &named, backend, runtime, report).map_err(|error| explain_pair(error, kind))?;
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    if report.pictures == 0 {
        return Err(CommandError::failed(format!("found no readable picture in {}", folder.display()))
            .with_hint("give a folder of PNG, JPEG, WebP, GIF or BMP files"));
    }
    Ok(())
}

/// Adds the files below a folder, but those whose names begin with a dot.
fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let read = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).context(read)? {
        let entry = entry.context(read)?;
        let (path, kind) = (entry.path(), entry.file_type().context(read)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            find(&path, depth + 1, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
        if files.len() > MAX_PICTURES {
            return Err(CommandError::failed(format!("found more than {MAX_PICTURES} files in {}", folder.display()))
                .with_hint("give a folder of fewer pictures"));
        }
    }
    Ok(())
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error(transparent)]
    Backend(#[from] ocelli_model::BackendError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

fn compare(
    pair: &Pair,
    named: &[(String, Vec<u8>)],
    backend: &mut dyn Backend,
    runtime: &mut Runtime,
    report: &mut Report,
) -> Result<(), CompareError> {
    let model = &pair.model;
    for batch in named.chunks(BATCH) {
        let images: Vec<&[u8]> = batch.iter().map(|(_, pixels)| pixels.as_slice()).collect();
        let ours = backend.logits(model, &images)?;
        let job = Job { file: &pair.file, shape: model.input(), given: &pair.given, outputs: model.logits() };
        let theirs = runtime.run(job, &images)?;
        for (((picture, _), ours), theirs) in batch.iter().zip(&ours).zip(&theirs) {
            report.pictures += 1;
            for (class, (found, other)) in ours.iter().zip(theirs).enumerate() {
                report.logits += 1;
                let (found, other) = (*found, other.wrapping_sub(pair.zero_point));
                if found == other {
                    continue;
                }
                report.differing += 1;
                let (picture, class_name) = (picture.clone(), model.classes()[class].clone());
                report.first.get_or_insert(Difference { picture, class, class_name, found, other });
            }
        }
    }
    Ok(())
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    if output.is_json() {
        return output.json(report);
    }
    output.rows(&[
        ("model", report.model.clone()),
        ("compared with", format!("{} {}", report.runtime, report.version)),
        ("device", report.device.clone()),
        ("pictures", report.pictures.to_string()),
        ("logits", report.logits.to_string()),
        ("differing", report.differing.to_string()),
    ])?;
    if let Some(Difference { picture, class, class_name, found, other }) = &report.first {
        let runtime = &report.runtime;
        output
            .line(format_args!("first: {picture}, class {class} ({class_name}): {found} here, {other} in {runtime}"))?;
    }
    Ok(())
}

fn explain_pair(error: CompareError, kind: RuntimeKind) -> CommandError {
    match error {
        CompareError::Backend(error) => error.into(),
        CompareError::Runtime(error) => explain_runtime(error, kind),
    }
}

fn explain_runtime(error: RuntimeError, kind: RuntimeKind) -> CommandError {
    let hint = match &error {
        RuntimeError::Start { .. } => "install Python, or name one with --python PROGRAM".to_owned(),
        RuntimeError::Missing { python, .. } => {
            format!(
                "run `{python} -m pip install {} numpy`, or name a Python that has it with --python PROGRAM",
                kind.package()
            )
        }
        _ => return error.into(),
    };
    CommandError::from(error).with_hint(hint)
}
