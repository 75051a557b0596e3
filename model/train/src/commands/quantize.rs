//! `ocelli model quantize`.

use std::path::PathBuf;

use ocelli_model::display::MAX_CARD;
use ocelli_model::file::MAX_FILE_BYTES;
use ocelli_model::{Backend, DeviceChoice, backend};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::input_file::read_bounded;
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use serde_json::json;

use super::train::{RECIPE_FILE, WEIGHTS_FILE};
use super::{bar, note, note_above, read_data};
use crate::dataset::{Dataset, Part};
use crate::quantize::{Naming, Progress, Quantized, Report, fine_tune, fine_tuning, quantize};
use crate::train::{FloatNetwork, Recipe, split};

/// Bounds the float weights of a model: four bytes for each of one, and names.
const MAX_WEIGHTS_BYTES: usize = 5 * MAX_FILE_BYTES;
/// How many pictures the sizes of activations are measured on.
const CALIBRATION_PICTURES: usize = 5_000;
/// How much accuracy may be lost to integers before it is said that fine-tuning helps.
const LOSS_TO_MENTION: f64 = 0.005;
/// Bounds a file that describes a training.
const MAX_RECIPE_BYTES: usize = 1 << 16;

/// Make an exact integer model of trained weights
///
/// The same pictures are kept back as in training, by the recipe's seed; on them it is chosen where activations are
/// clipped, and the scale of the probabilities is fitted. With --fine-tune the weights are trained on while every number is
/// rounded as the integers are (quantisation-aware training), which wins back what rounding has cost.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `model train` wrote
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// The pictures that were trained on
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

    /// The model file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// For how many epochs the weights are trained on as integers; the best epoch is kept, if it is better than none
    #[arg(long, value_name = "EPOCHS", default_value_t = 0)]
    fine_tune: usize,

    /// The highest learning rate of fine-tuning
    #[arg(long, value_name = "NUMBER", default_value_t = fine_tuning(&Recipe::default(), 1).learning_rate)]
    learning_rate: f64,

    /// The model's name [default: the file's, without its ending]
    #[arg(long)]
    name: Option<String>,

    /// A text file that describes the model, to be kept in it
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// For files that are not what they should be, and a network that cannot be made exact.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let weights = args.folder.join(WEIGHTS_FILE);
    let read = |path: &PathBuf, limit| {
        read_bounded(path, limit)
            .context(|| format!("cannot read {}", path.display()))
            .hint(|| "give the folder that `ocelli model train` wrote")
    };
    let network = FloatNetwork::from_bytes(&read(&weights, MAX_WEIGHTS_BYTES)?)
        .context(|| format!("{} holds no float weights", weights.display()))?;
    let recipe = args.folder.join(RECIPE_FILE);
    let recipe: Recipe = serde_json::from_slice(&read(&recipe, MAX_RECIPE_BYTES)?)
        .context(|| format!("{} is not a recipe", recipe.display()))?;
    let card = match &args.card {
        Some(path) => {
            String::from_utf8(read_bounded(path, MAX_CARD).context(|| format!("cannot read {}", path.display()))?)
                .context(|| format!("{} is not UTF-8 text", path.display()))?
        }
        None => String::new(),
    };
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let naming = Naming { name: args.name.clone().unwrap_or(stem), card };

    let data = read_data(&args.data, Part::Train, network.graph().input().shape)?;
    let (training, validation) = split(&data, &recipe);
    let (mut device, _) = backend::open(DeviceChoice::Cpu)?;
    let calibration = training.sample(CALIBRATION_PICTURES, recipe.seed);
    let mut said = Ok(());
    let mut quantized = quantize(&network, &naming, &calibration, &validation, &mut *device, &mut |trial| {
        let text = format!(
            "keeping {} % of the activations: {:.2} % right, loss {:.4}",
            trial.kept * 100.0,
            trial.accuracy * 100.0,
            trial.loss
        );
        said = std::mem::replace(&mut said, Ok(())).and_then(|()| note(&text));
    })
    .context(|| format!("cannot quantise {}", weights.display()))?;
    said?;
    if args.fine_tune > 0 {
        let recipe = Recipe { learning_rate: args.learning_rate, ..fine_tuning(&recipe, args.fine_tune) };
        quantized = tune(&network, quantized, (&training, &validation), &recipe, &mut *device)
            .context(|| format!("cannot fine-tune {}", weights.display()))?;
    }
    let report = &quantized.report;
    if report.float_accuracy - report.integer_accuracy > LOSS_TO_MENTION {
        note(&format!(
            "warning: {:.2} points are lost to integers; try --fine-tune {}",
            (report.float_accuracy - report.integer_accuracy) * 100.0,
            args.fine_tune + 2
        ))?;
    }
    output.leave_stdout_to(&args.output);
    write_result(&args.output, quantized.model.bytes())?;
    let (file, id) = (args.output.display().to_string(), quantized.model.id().to_string());
    if output.is_json() {
        let bytes = quantized.model.bytes().len();
        return output.json(&json!({ "file": file, "id": id, "bytes": bytes, "report": quantized.report }));
    }
    output.line(format_args!("{file}: {} bytes, model {id}", quantized.model.bytes().len()))?;
    print(&quantized.report, output)
}

/// Fine-tunes behind a progress bar, and tells each epoch.
fn tune(
    network: &FloatNetwork,
    quantized: Quantized,
    (training, validation): (&Dataset, &Dataset),
    recipe: &Recipe,
    device: &mut dyn Backend,
) -> Result<Quantized, CommandError> {
    let progress = bar(None, "{bar:30} {msg}, {eta} left");
    let mut said = Ok(());
    let tuned = fine_tune(network, quantized, training, validation, recipe, device, &mut |now| match now {
        Progress::Step(step) => {
            progress.set_length(step.steps as u64);
            progress.set_position(step.step as u64);
            progress.set_message(format!("fine-tuning epoch {}/{}, loss {:.3}", step.epoch, recipe.epochs, step.loss));
        }
        Progress::Epoch(epoch) => {
            let text = format!(
                "fine-tuning epoch {}/{}: loss {:.4}, as integers {:.2} % right, loss {:.4}, {:.0} pictures/s",
                epoch.epoch,
                recipe.epochs,
                epoch.training_loss,
                epoch.accuracy * 100.0,
                epoch.loss,
                epoch.images_per_second
            );
            said = std::mem::replace(&mut said, Ok(())).and_then(|()| note_above(&progress, &text));
        }
    });
    progress.finish_and_clear();
    let tuned = tuned?;
    said?;
    Ok(tuned)
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    output.rows(&[
        ("float accuracy, pictures kept back", format!("{:.2} %", report.float_accuracy * 100.0)),
        ("integer accuracy, pictures kept back", format!("{:.2} %", report.integer_accuracy * 100.0)),
        ("activations kept unclipped", format!("{} %", report.kept * 100.0)),
        ("scale of the probabilities", format!("{:.3e}, unfitted {:.3e}", report.scale, report.unfitted_scale)),
    ])?;
    output.line(format_args!(
        "\n{:<16} {:>10} {:>5} {:>9} {:>22} {:>11}",
        "layer", "step", "zero", "clipped", "scales", "largest sum"
    ))?;
    for layer in &report.layers {
        output.line(format_args!(
            "{:<16} {:>10.3e} {:>5} {:>7.3} % {:>22} {:>11}",
            layer.layer,
            layer.step,
            layer.zero_point,
            layer.clipped * 100.0,
            layer.scales.map_or(String::new(), |(least, most)| format!("{least:.2e}..{most:.2e}")),
            if layer.bound > 0 { layer.bound.to_string() } else { String::new() }
        ))?;
    }
    Ok(())
}
