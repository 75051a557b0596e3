//! `ocelli model evaluate`.

use std::path::PathBuf;

use ocelli_model::dataset::Part;
use ocelli_model::evaluate::{Evaluation, evaluate};
use serde::Serialize;

use super::super::error::{CommandError, Explain as _};
use super::super::output::Output;
use super::{DeviceOption, ModelOption, bar, load, read_data};

/// Count how often a model is right on labelled pictures
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOption,

    /// The pictures: a folder, .tar or .tar.gz of class folders; of train/ and test/ folders, test/ is taken
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

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
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let model = load(&args.model.model)?;
    let mut backend = args.device.open(&model)?;
    let data = read_data(&args.data, Part::Test, model.input())?;
    let progress = bar(Some(data.len() as u64), "{bar:30} {pos}/{len} pictures, {per_sec}, {eta} left");
    let evaluation = evaluate(&model, &mut backend, &data, &mut |done| progress.set_position(done as u64));
    progress.finish_and_clear();
    let evaluation = evaluation.context(|| format!("cannot evaluate {}", args.model.model))?;
    if output.is_json() {
        let skipped = data.skipped().iter().map(|file| [file.name.as_str(), file.reason.as_str()]).collect();
        return output.json(&Row { evaluation: &evaluation, id: model.id().to_string(), skipped });
    }
    print(&evaluation, output)
}

fn print(evaluation: &Evaluation, output: &mut Output) -> Result<(), CommandError> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    output.rows(&[
        ("model", evaluation.model.clone()),
        ("device", evaluation.device.clone()),
        ("images", evaluation.images.to_string()),
        ("top-1", percent(evaluation.top1)),
        ("top-5", percent(evaluation.top5)),
        ("calibration error", percent(evaluation.expected_calibration_error)),
        ("images per second", format!("{:.0}", evaluation.images_per_second)),
    ])?;
    output.line("\nclass by class: the share that was right, and how many got which label")?;
    let width = evaluation.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
    let column = 6;
    let heads: String = evaluation
        .classes
        .iter()
        .map(|class| format!(" {:>column$}", class.chars().take(column).collect::<String>()))
        .collect();
    output.line(format_args!("{:<width$} {:>8}{heads}", "", ""))?;
    for (class, row) in evaluation.classes.iter().zip(&evaluation.confusion) {
        let share = evaluation.per_class.0.iter().find(|(name, _)| name == class);
        let share = share.map_or("-".into(), |(_, share)| percent(*share));
        let counts: String = row.iter().map(|count| format!(" {count:>column$}")).collect();
        output.line(format_args!("{class:<width$} {share:>8}{counts}"))?;
    }
    Ok(())
}
