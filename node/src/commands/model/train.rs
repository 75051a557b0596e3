//! `ocelli model train`.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use ocelli_model::dataset::Part;
use ocelli_model::graph::Graph;
use ocelli_model::train::{FloatNetwork, Progress, Recipe, TrainError, train};
use ocelli_model::zoo;
use serde_json::json;

use super::super::error::{CommandError, Explain as _};
use super::super::output::Output;
use super::{DEFAULT_MODEL, bar, load, note_above, read_bounded, read_data, write_whole};

/// The best float weights so far, in the folder of a training.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// How the weights were trained.
pub const RECIPE_FILE: &str = "recipe.json";
/// How every epoch went, one JSON object a line.
const METRICS_FILE: &str = "metrics.jsonl";
/// Bounds a file that describes a graph.
const MAX_GRAPH_BYTES: usize = 1 << 20;

/// Train a network on labelled pictures; `model quantize` then makes a model of it
///
/// The folder gets the best float weights (weights.safetensors, written after each epoch that was better than those
/// before), the recipe (recipe.json), and a line of JSON for each epoch (metrics.jsonl).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pictures: a folder, .tar or .tar.gz of class folders; of train/ and test/ folders, train/ is taken
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

    /// The folder to write, made if it is not there
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,

    /// The network's graph: that of a built-in model or of a model file, or a JSON file of the graph alone
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    graph: String,

    /// How often every picture is shown
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().epochs)]
    epochs: usize,

    /// Pictures a step
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().batch)]
    batch: usize,

    /// The highest learning rate
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().learning_rate)]
    learning_rate: f64,

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
    #[arg(long, value_name = "NUMBER", default_value_t = Recipe::default().shift)]
    shift: usize,

    /// Never mirror pictures, for classes that know left from right
    #[arg(long)]
    no_flip: bool,

    /// Normalise the sums of every layer but the last over the batch, as deep networks need; folded into the weights
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

impl Args {
    fn recipe(&self) -> Recipe {
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            shift: self.shift,
            flip: !self.no_flip,
            ceiling: self.ceiling,
            batch_norm: self.batch_norm,
            validation: self.validation,
            seed: self.seed,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// For data, a graph or numbers that do not fit together, a training that diverges, and a folder that cannot be written.
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let (graph, recipe) = (read_graph(&args.graph)?, args.recipe());
    let data = read_data(&args.data, Part::Train, graph.input())?;
    let metrics_path = args.output.join(METRICS_FILE);
    fs::create_dir_all(&args.output).context(|| format!("cannot make the folder {}", args.output.display()))?;
    let mut metrics_file =
        File::create(&metrics_path).context(|| format!("cannot write {}", metrics_path.display()))?;
    let weights = args.output.join(WEIGHTS_FILE);
    let text = serde_json::to_string_pretty(&recipe)? + "\n";
    write_whole(&args.output.join(RECIPE_FILE), text.as_bytes())?;

    let progress = bar(None, "{bar:30} {msg}, {eta} left");
    let mut failure = None;
    let trained = train(graph, &data, &recipe, &mut |event| match on_progress(
        &event,
        &weights,
        &mut metrics_file,
        &progress,
        recipe.epochs,
    ) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    progress.finish_and_clear();
    if let Some(error) = failure {
        return Err(error.with_context("the training was stopped"));
    }
    let trained = trained.map_err(explain)?;
    let best = trained.epochs.iter().rev().find(|epoch| epoch.best);
    let accuracy = best.map_or(0.0, |epoch| epoch.validation_accuracy);
    if output.is_json() {
        return output.json(&json!({
            "weights": weights.display().to_string(),
            "recipe": recipe,
            "best": best,
            "epochs": trained.epochs,
            "skipped": data.skipped().len(),
        }));
    }
    output.line(format_args!(
        "{}: {:.2} % of the pictures kept back are right; now run `ocelli model quantize {} --data {} --output FILE`",
        weights.display(),
        accuracy * 100.0,
        args.output.display(),
        args.data.display()
    ))
}

fn on_progress(
    event: &Progress,
    weights: &Path,
    metrics_file: &mut File,
    bar: &ProgressBar,
    epochs: usize,
) -> Result<(), CommandError> {
    match event {
        Progress::Step { epoch, step, steps, loss } => {
            bar.set_length(*steps as u64);
            bar.set_position(*step as u64);
            bar.set_message(format!("epoch {epoch}/{epochs}, loss {loss:.3}"));
        }
        Progress::Epoch { metrics, network } => {
            let mut line = serde_json::to_vec(metrics)?;
            line.push(b'\n');
            metrics_file.write_all(&line).context(|| "cannot write the metrics")?;
            if metrics.best {
                write_whole(weights, &FloatNetwork::to_bytes(network)?)?;
            }
            note_above(
                bar,
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
    }
    Ok(())
}

fn explain(error: TrainError) -> CommandError {
    let hint = match &error {
        TrainError::Classes { .. } => "give a graph whose last layer has a channel for each class, with --graph FILE",
        TrainError::Diverged { .. } => "try a lower --learning-rate",
        _ => return error.into(),
    };
    CommandError::from(error).with_hint(hint)
}

/// The graph of a model, or of a file of a graph alone.
fn read_graph(name: &str) -> Result<Graph, CommandError> {
    if name == DEFAULT_MODEL {
        return Ok(zoo::cifar10_cnn());
    }
    if !name.ends_with(".json") {
        return Ok(load(name)?.graph().clone());
    }
    let read = || format!("cannot read the graph {name}");
    let bytes = read_bounded(Path::new(name), MAX_GRAPH_BYTES).context(read)?;
    if bytes.len() > MAX_GRAPH_BYTES {
        return Err(CommandError::failed(format!("{name} has more than {MAX_GRAPH_BYTES} bytes")).with_context(read()));
    }
    let text = String::from_utf8(bytes).context(read)?;
    Graph::from_json(&text).context(read).hint(|| "`docs/inference.md` describes the graph")
}
