//! `ocelli model evaluate`.

use std::path::PathBuf;
use std::slice;

use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::model_option::{ModelOption, load};
use ocelli_program::output::Printer;
use serde::Serialize;

use super::{bar, read_data, write_plots};
use crate::dataset::Part;
use crate::evaluate::{Evaluation, evaluate};
use crate::plots;
use crate::train::{Recipe, split};

/// More classes than this make a confusion matrix too wide for a terminal; `--json` has it in any case.
const MAX_COLUMNS: usize = 24;

/// Count how often a model is right on labelled pictures
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOption,

    /// The pictures: a folder, .tar or .tar.gz of class folders or of CIFAR-10's binary batches; of parts, such as train/ and
    /// val/, the part test, testing, eval or evaluation, else val, valid, validation or dev
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

    /// Take what a training with this --validation kept back, not the test part
    #[arg(long, value_name = "SHARE", value_parser = share)]
    validation: Option<f64>,

    /// The seed of that training
    #[arg(long, value_name = "NUMBER", requires = "validation", default_value_t = Recipe::default().seed)]
    seed: u64,

    /// Draw the confusion matrix and the most confident mistakes into this folder, as SVG
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    id: String,
    skipped: Vec<[&'a str; 2]>,
}

/// Runs the command.
///
/// # Errors
/// For a model, a device or data that cannot be used.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let model = load(&args.model.model)?;
    let mut backend = args.device.open(slice::from_ref(&model))?;
    let data = match args.validation {
        None => read_data(&args.data, Part::Test, model.graph().input())?,
        Some(validation) => {
            let data = read_data(&args.data, Part::Train, model.graph().input())?;
            split(&data, &Recipe { validation, seed: args.seed, ..Recipe::default() }).1
        }
    };
    let progress = bar(Some(data.len() as u64), "{bar:30} {pos}/{len} pictures, {per_sec}, {eta} left");
    let evaluation = evaluate(&model, &mut *backend, &data, &mut |done| progress.set_position(done as u64));
    progress.finish_and_clear();
    let mut evaluation = evaluation.context(|| format!("cannot evaluate {}", args.model.model))?;
    if evaluation.model.is_empty() {
        evaluation.model.clone_from(&args.model.model);
    }
    if let Some(folder) = &args.plots {
        write_plots(folder, &plots::of_evaluation(&evaluation, &data).context(|| "cannot draw the evaluation")?)?;
    }
    if output.is_json() {
        let skipped = data.skipped().iter().map(|file| [file.name.as_str(), file.reason.as_str()]).collect();
        return output.json(&Row { evaluation: &evaluation, id: model.id().to_string(), skipped });
    }
    print(&evaluation, output)
}

/// Reads a share of a whole.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a share between 0 and 1, such as 0.05".into()),
    }
}

fn print(evaluation: &Evaluation, output: &mut Printer) -> Result<(), CommandError> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    output.rows(&[
        ("model", evaluation.model.clone()),
        ("device", evaluation.device.clone()),
        ("images", evaluation.images.to_string()),
        ("top-1", percent(evaluation.top1)),
        ("top-5", percent(evaluation.top5)),
        ("loss", format!("{:.4}", evaluation.loss)),
        ("expected calibration error", percent(evaluation.expected_calibration_error)),
        ("images per second", format!("{:.0}", evaluation.images_per_second)),
    ])?;
    let width = evaluation.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
    let share = |class: &str| {
        let share = evaluation.per_class.0.iter().find(|(name, _)| name == class);
        share.map_or("-".into(), |(_, share)| percent(*share))
    };
    if evaluation.classes.len() > MAX_COLUMNS {
        output.line("\nclass by class: the share that was right")?;
        for class in &evaluation.classes {
            output.line(format_args!("{class:<width$} {:>8}", share(class)))?;
        }
        return Ok(());
    }
    output.line("\nclass by class: the share that was right, and how many got which label")?;
    let column = if evaluation.classes.len() <= 10 { width.clamp(6, 10) } else { 6 };
    let heads: String = evaluation
        .classes
        .iter()
        .map(|class| format!(" {:>column$}", class.chars().take(column).collect::<String>()))
        .collect();
    output.line(format_args!("{:<width$} {:>8}{heads}", "", ""))?;
    for (class, row) in evaluation.classes.iter().zip(&evaluation.confusion) {
        let counts: String = row.iter().map(|count| format!(" {count:>column$}")).collect();
        output.line(format_args!("{class:<width$} {:>8}{counts}", share(class)))?;
    }
    Ok(())
}
