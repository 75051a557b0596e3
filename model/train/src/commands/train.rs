//! `ocelli model train`.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use indicatif::ProgressBar;
use ocelli_model::display::DisplayError;
use ocelli_model::file::FileError;
use ocelli_model::graph::Graph;
use ocelli_model::{Shape, zoo};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::input_file::read_bounded;
use ocelli_program::model_option::{DEFAULT_MODEL, load};
use ocelli_program::output::Printer;
use ocelli_program::output_file::write_result;
use ocelli_program::signals::stop_flag;
use serde_json::json;

use super::{bar, note_above, read_data, write_plots};
use crate::dataset::{Dataset, Part};
use crate::plots;
use crate::train::{Changes, EpochMetrics, FloatNetwork, Method, Outcome, Recipe, Step, TrainError, Trainer};

/// The best float weights so far, in the folder of a training.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// How the weights were trained.
pub const RECIPE_FILE: &str = "recipe.json";
/// How every epoch went, one JSON object a line.
const METRICS_FILE: &str = "metrics.jsonl";
/// The training as it stands, for `--resume`.
const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// Bounds a checkpoint: weights, what the optimizer remembers of them, their mean and the best.
const MAX_CHECKPOINT_BYTES: usize = 2 << 30;
/// Bounds a file that describes a graph.
const MAX_GRAPH_BYTES: usize = 1 << 20;

/// Train a network on labelled pictures; `model quantize` then makes a model of it
///
/// The folder gets the best float weights (weights.safetensors, written after each epoch that was better than those
/// before), the recipe (recipe.json), a line of JSON for each epoch (metrics.jsonl), and after each epoch the training as it
/// stands (checkpoint.safetensors), which --resume continues; Ctrl-C, SIGTERM and SIGHUP end the batch and write it too. At the end it gets
/// pictures of how it went: curves.svg, confusion.svg and mistakes.svg.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pictures: a folder, .tar or .tar.gz of class folders or of CIFAR-10's binary batches; of parts, such as train/ and
    /// val/, the part train or training
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

    /// The folder to write, made if it is not there
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,

    /// The network's graph: that of a built-in model or of a model file, or a JSON or TOML file of the graph alone
    /// [default: that of --start, or else cifar10-cnn]
    #[arg(long, value_name = "NAME|FILE")]
    graph: Option<String>,

    /// Begin with what a model has learnt rather than with random weights. Layers of --graph that have the model's names and
    /// sizes take over its weights, the others begin anew, and so does the last one with other classes than the model's. A
    /// lower --learning-rate than for a new network keeps more of it
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "resume")]
    start: Option<String>,

    /// Take class folders without a readable picture too: the model has the class and never learns it
    #[arg(long)]
    allow_empty_classes: bool,

    /// Continue the training in the folder, with its graph and recipe, to the same end as if it had not been stopped, or to
    /// another one with --epochs
    #[arg(long, conflicts_with_all = ["graph", "recipe"])]
    resume: bool,

    /// How often every picture is shown [default: 12; with --resume, as planned]
    #[arg(long, value_name = "NUMBER")]
    epochs: Option<usize>,

    #[command(flatten)]
    recipe: RecipeArgs,
}

/// How it is trained, which a training that is resumed knows already.
#[derive(Debug, clap::Args)]
#[group(id = "recipe")]
#[command(next_help_heading = "Recipe")]
struct RecipeArgs {
    /// Pictures a step
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().batch)]
    batch: usize,

    /// The highest learning rate
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().learning_rate)]
    learning_rate: f64,

    /// How weights follow gradients: adamw or sgd
    #[arg(long, value_name = "METHOD", default_value_t = Recipe::default().optimizer)]
    optimizer: Method,

    /// The (Nesterov's) momentum of sgd
    #[arg(long, value_name = "SHARE", default_value_t = Recipe::default().momentum)]
    momentum: f64,

    /// How much of the mean of all weights a step leaves, such as 0.999: the mean is kept; 0 keeps the weights as they are
    #[arg(long, value_name = "SHARE", default_value_t = Recipe::default().averaging)]
    averaging: f64,

    /// How many epochs the learning rate rises before it falls
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().warmup)]
    warmup: f64,

    /// By how much of the learning rate weights shrink a step
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().weight_decay)]
    weight_decay: f64,

    /// The share of every label that is spread over all classes
    #[arg(long, value_name = "SHARE", default_value_t = Recipe::default().label_smoothing)]
    label_smoothing: f64,

    /// By how many pixels at most pictures are shifted
    #[arg(long, value_name = "NUMBER", default_value_t = Changes::default().shift)]
    shift: usize,

    /// The side in pixels of a square, somewhere in each picture, that is painted black, against overfitting; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = Changes::default().cutout)]
    cutout: usize,

    /// The share of pictures that get a rectangle of another picture instead of a black square, and as much of its label: against
    /// overfitting in long trainings
    #[arg(long, value_name = "SHARE", default_value_t = Changes::default().cutmix)]
    cutmix: f64,

    /// Never mirror pictures, for classes that know left from right
    #[arg(long)]
    no_flip: bool,

    /// Normalise the sums of every layer but the last over 32 pictures, as deep networks need; folded into the weights
    #[arg(long)]
    batch_norm: bool,

    /// What activations are clamped to
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().ceiling)]
    ceiling: f32,

    /// The share of the data that is kept back to choose the best epoch
    #[arg(long, value_name = "SHARE", default_value_t = Recipe::default().validation)]
    validation: f64,

    /// The seed of everything random
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().seed)]
    seed: u64,
}

impl RecipeArgs {
    fn recipe(&self, epochs: Option<usize>) -> Recipe {
        Recipe {
            epochs: epochs.unwrap_or(Recipe::default().epochs),
            batch: self.batch,
            learning_rate: self.learning_rate,
            optimizer: self.optimizer,
            momentum: self.momentum,
            averaging: self.averaging,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            changes: Changes { shift: self.shift, cutout: self.cutout, cutmix: self.cutmix, flip: !self.no_flip },
            ceiling: self.ceiling,
            batch_norm: self.batch_norm,
            validation: self.validation,
            seed: self.seed,
            start: None,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// For data, a graph or numbers that do not fit together, a training that diverges, and a folder that cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let checkpoint = args.output.join(CHECKPOINT_FILE);
    let mut trainer = if args.resume {
        let read = || format!("cannot continue the training in {}", args.output.display());
        let bytes = read_bounded(&checkpoint, MAX_CHECKPOINT_BYTES).context(read)?;
        let shape = Trainer::shape(&bytes).context(read)?;
        let data = read_data(&args.data, Part::Train, shape)?;
        let mut trainer = Trainer::resume(&bytes, &data).context(read)?;
        if let Some(epochs) = args.epochs {
            trainer.set_epochs(epochs)?;
        }
        trainer
    } else if let Some(start) = &args.start {
        refuse_to_overwrite(&args.output)?;
        let model = load(start)?;
        let graph = args.graph.as_deref().map(read_graph).transpose()?;
        let shape = graph.as_ref().map_or(model.input(), |graph| graph.input().shape);
        let data = read_classes(args, shape)?;
        Trainer::from_model(&model, graph, &data, &args.recipe.recipe(args.epochs)).map_err(explain)?
    } else {
        refuse_to_overwrite(&args.output)?;
        let graph = read_graph(args.graph.as_deref().unwrap_or(DEFAULT_MODEL))?;
        let data = read_classes(args, graph.input().shape)?;
        Trainer::new(graph, &data, &args.recipe.recipe(args.epochs)).map_err(explain)?
    };
    let recipe = trainer.recipe().clone();
    let metrics_path = args.output.join(METRICS_FILE);
    fs::create_dir_all(&args.output).context(|| format!("cannot make the folder {}", args.output.display()))?;
    let mut metrics_file =
        File::create(&metrics_path).context(|| format!("cannot write {}", metrics_path.display()))?;
    for metrics in trainer.epochs() {
        write_line(&mut metrics_file, metrics)?;
    }
    let weights = args.output.join(WEIGHTS_FILE);
    let text = serde_json::to_string_pretty(&recipe)? + "\n";
    write_result(&args.output.join(RECIPE_FILE), text.as_bytes())?;

    let stop = stop_flag().context(|| "cannot listen for signals")?;
    let progress = bar(None, "{bar:30} {msg}, {eta} left");
    let epochs = recipe.epochs;
    let mut stopped = false;
    while !trainer.is_done() && !stopped {
        let outcome = trainer.epoch(&mut |step| {
            show(&progress, &step, &recipe);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let outcome = outcome.map_err(explain)?;
        if let Outcome::Epoch(metrics) = &outcome {
            write_line(&mut metrics_file, metrics)?;
            if metrics.best
                && let Some(bytes) = trainer.best()?
            {
                write_result(&weights, &bytes)?;
            }
        }
        write_result(&checkpoint, &trainer.checkpoint()?)?;
        // Last, as a terminal that is gone takes nothing.
        if let Outcome::Epoch(metrics) = outcome {
            note_above(
                &progress,
                &format!(
                    "epoch {}/{epochs}: loss {:.4}, accuracy {:.2} %, kept back {:.2} %, {:.0} pictures/s",
                    metrics.epoch,
                    metrics.loss,
                    metrics.accuracy * 100.0,
                    metrics.validation_accuracy * 100.0,
                    metrics.images_per_second
                ),
            )?;
        }
        stopped = stop.load(Ordering::Relaxed) && !trainer.is_done();
    }
    progress.finish_and_clear();
    if let Some(bytes) = trainer.best()? {
        let network = FloatNetwork::from_bytes(&bytes)?;
        let plots = plots::of_training(trainer.epochs(), &network, trainer.validation());
        write_plots(&args.output, &plots.context(|| "cannot draw the training")?)?;
    }
    let best = trainer.epochs().iter().rev().find(|epoch| epoch.best);
    let accuracy = best.map_or(0.0, |epoch| epoch.validation_accuracy);
    if output.is_json() {
        return output.json(&json!({
            "weights": weights.display().to_string(),
            "recipe": recipe,
            "best": best,
            "epochs": trainer.epochs(),
            "skipped": trainer.skipped(),
            "stopped": stopped,
        }));
    }
    if stopped {
        return output.line(format_args!(
            "stopped in epoch {}; go on with `ocelli model train --resume --data {} --output {}`",
            trainer.epochs().len() + 1,
            args.data.display(),
            args.output.display()
        ));
    }
    output.line(format_args!(
        "{}: {:.2} % of the pictures kept back are right; now run `ocelli model quantize {} --data {} --output FILE`",
        weights.display(),
        accuracy * 100.0,
        args.output.display(),
        args.data.display()
    ))
}

/// Reads the pictures of a training that begins: what classes there are is learnt from them.
fn read_classes(args: &Args, shape: Shape) -> Result<Dataset, CommandError> {
    let data = read_data(&args.data, Part::Train, shape)?;
    let empty = data.empty_classes();
    if empty.is_empty() || args.allow_empty_classes {
        return Ok(data);
    }
    let (path, names) = (args.data.display(), empty.join(", "));
    Err(CommandError::failed(format!(
        "{path}: found no readable picture of {names}, expected some in each class folder"
    ))
    .with_hint(
        "put pictures into them, or take the folders away; --allow-empty-classes keeps the classes all the same",
    ))
}

/// A training that begins writes over what another one left in the folder.
fn refuse_to_overwrite(folder: &Path) -> Result<(), CommandError> {
    let found = [CHECKPOINT_FILE, WEIGHTS_FILE, METRICS_FILE].into_iter().find(|file| folder.join(file).exists());
    let Some(found) = found else { return Ok(()) };
    let found = format!("found {found} of another training in {}, expected a folder without one", folder.display());
    Err(CommandError::failed(found)
        .with_hint("continue that training with --resume, or give another folder with --output"))
}

fn show(bar: &ProgressBar, step: &Step, recipe: &Recipe) {
    bar.set_length(step.steps as u64);
    bar.set_position(step.step as u64);
    let rate = bar.per_sec() * recipe.batch as f64;
    bar.set_message(format!("epoch {}/{}, loss {:.3}, {rate:.0} pictures/s", step.epoch, recipe.epochs, step.loss));
}

fn write_line(file: &mut File, metrics: &EpochMetrics) -> Result<(), CommandError> {
    let mut line = serde_json::to_vec(metrics)?;
    line.push(b'\n');
    file.write_all(&line).context(|| "cannot write the metrics")
}

fn explain(error: TrainError) -> CommandError {
    let hint = match &error {
        TrainError::Classes { .. } => "give a graph whose last layer has a channel for each class, with --graph FILE",
        TrainError::Diverged { .. } => "try a lower --learning-rate",
        TrainError::NoModelFile(FileError::Display(DisplayError::ClassName { .. })) => {
            "give the class folder another name"
        }
        TrainError::NoModelFile(FileError::TooLarge { .. }) => "give a graph of fewer weights with --graph FILE",
        _ => return error.into(),
    };
    CommandError::from(error).with_hint(hint)
}

/// The graph of a model, or of a file of a graph alone.
fn read_graph(name: &str) -> Result<Graph, CommandError> {
    if name == DEFAULT_MODEL {
        return Ok(zoo::cifar10_cnn());
    }
    if !name.ends_with(".json") && !name.ends_with(".toml") {
        return Ok(load(name)?.graph().clone());
    }
    let read = || format!("cannot read the graph {name}");
    let bytes = read_bounded(Path::new(name), MAX_GRAPH_BYTES).context(read)?;
    if bytes.len() > MAX_GRAPH_BYTES {
        return Err(CommandError::failed(format!("{name} has more than {MAX_GRAPH_BYTES} bytes")).with_context(read()));
    }
    let text = String::from_utf8(bytes).context(read)?;
    Graph::from_text(&text).context(read).hint(|| "`docs/inference.md` describes the graph")
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn the_help_names_the_default_number_of_epochs() {
        let command = Args::augment_args(clap::Command::new("train"));
        let help =
            command.get_arguments().find(|argument| argument.get_id() == "epochs").and_then(|found| found.get_help());
        let help = help.expect("every option has a help").to_string();
        assert!(help.contains(&format!("[default: {};", Recipe::default().epochs)), "{help}");
    }
}
