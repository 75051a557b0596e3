//! `ocelli model run`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::slice;

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_model::{Backend, Model};
use ocelli_program::model_option::{ModelOption, load};
use serde::Serialize;

use super::super::error::CommandError;
use super::super::output::Printer;
use super::super::pictures::{Problems, SIDE_BY_SIDE, Seen};
use super::super::table::{BEST, Row, Table};
use super::super::{pictures, table};
use super::DeviceOption;

/// How many classes of a picture are shown to people, unless `--top` says otherwise.
const SHOWN: usize = 3;

/// Say what is in pictures, here and now, without a network
///
/// Of each picture the model sees what it would see if the picture were submitted to a network, so the answer is the one that
/// would be paid for. Nothing leaves this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pictures (PNG, JPEG, WebP, GIF or BMP), folders of them, patterns, or `-` for a list of files on stdin
    #[arg(value_name = "PICTURE|FOLDER", required = true)]
    pictures: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelOption,

    #[command(flatten)]
    device: DeviceOption,

    /// Write a row for each picture to this table, and go on after the last one if it is there; see README
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// How many classes are told, the most probable first [default: 3 to people, 5 in tables and JSON]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=BEST as i64))]
    top: Option<u16>,

    /// Leave out classes that are less probable than this, from 0 to 1
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    min_probability: f64,
}

fn probability(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
    found.ok_or_else(|| "expected a number from 0 to 1, such as 0.5".into())
}

/// What is printed of one picture.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    label: String,
    /// Of the label, 0 to 1, rounded to 6 decimals: for display.
    probability: f64,
    best: Vec<Class>,
    /// What was done to the file so that a task can carry it.
    seen_as: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<String>,
    logits: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct Class {
    label: String,
    probability: f64,
}

/// A picture with its logits, or why it cannot be used.
type Answered = Result<(Seen, Vec<i32>), String>;

/// Runs the command.
///
/// # Errors
/// For a model, a device or a table that cannot be used, and after all others have been answered, where pictures cannot be.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let model = load(&args.model.model)?;
    let mut files = pictures::find(&args.pictures)?;
    let mut table = args.csv.as_deref().map(Table::open).transpose()?;
    let id = model.id().to_string();
    let asked = files.len();
    if let Some(table) = &table {
        files.retain(|file| !table.answers().has(&pictures::name(file), &id));
    }
    let mut backend = args.device.open(slice::from_ref(&model))?;

    let progress = progress(files.len(), table.is_some());
    let mut answers = Vec::new();
    let mut problems = Problems::default();
    for batch in files.chunks(SIDE_BY_SIDE) {
        for (file, found) in batch.iter().zip(answer(&model, &mut *backend, batch)?) {
            let name = pictures::name(file);
            if let Err(problem) = &found {
                problems.add(&name, problem);
            }
            let best = |logits: &[i32], most: usize| {
                table::best(&model, logits, args.top.map_or(most, usize::from), args.min_probability)
            };
            match (&mut table, found) {
                (Some(table), Ok((seen, logits))) => table.add(&Row {
                    file: name,
                    model: id.clone(),
                    taken: seen.taken,
                    best: best(&logits, BEST),
                    hashes: Some((seen.attachment.file_hash, seen.attachment.sent_hash)),
                    ..Row::default()
                })?,
                (Some(table), Err(problem)) => {
                    table.add(&Row { file: name, model: id.clone(), problem: Some(problem), ..Row::default() })?;
                }
                (None, Ok((seen, logits))) if output.is_json() => {
                    answers.push(told(&model, name, &best(&logits, BEST), seen, logits));
                }
                (None, Ok((_, logits))) => output.line(format_args!("{name}: {}", words(&best(&logits, SHOWN))))?,
                (None, Err(_)) => {}
            }
        }
        if let Some(table) = &mut table {
            table.flush()?;
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();

    match &args.csv {
        Some(path) => say_where(path, asked, files.len(), problems.count(), output)?,
        None if output.is_json() => output.json(&answers)?,
        None => {}
    }
    problems.check(asked, "")
}

/// Reads and runs some pictures; of each what came of it, or why it cannot be used.
fn answer(model: &Model, backend: &mut dyn Backend, files: &[PathBuf]) -> Result<Vec<Answered>, CommandError> {
    let seen = pictures::read_all(files, model);
    let pixels: Vec<&[u8]> = seen.iter().flatten().map(|seen| seen.attachment.pixels.as_slice()).collect();
    let mut logits = backend.logits(model, &pixels)?.into_iter();
    let answered = seen.into_iter().map(|seen| {
        let seen = seen?;
        let logits = logits.next().ok_or("the device has left out an answer")?;
        Ok((seen, logits))
    });
    Ok(answered.collect())
}

fn words(best: &[(String, f64)]) -> String {
    if best.is_empty() {
        return "nothing so probable".into();
    }
    let classes = best.iter().map(|(label, probability)| format!("{label} {:.1} %", probability * 100.0));
    classes.collect::<Vec<_>>().join(", ")
}

fn told(model: &Model, file: String, best: &[(String, f64)], seen: Seen, logits: Vec<i32>) -> Answer {
    let rounded = |probability: f64| (probability * 1e6).round() / 1e6;
    let label = model.label(&logits);
    Answer {
        file,
        label: model.classes()[label].clone(),
        probability: rounded(model.probabilities(&logits)[label]),
        best: best.iter().map(|(label, found)| Class { label: label.clone(), probability: rounded(*found) }).collect(),
        seen_as: seen.attachment.done.to_string(),
        taken: seen.taken,
        logits,
    }
}

fn say_where(path: &Path, asked: usize, run: usize, failed: usize, output: &mut Printer) -> Result<(), CommandError> {
    let (answered, before) = (run - failed, asked - run);
    if output.is_json() {
        return output.json(&serde_json::json!({
            "table": path, "pictures": asked, "answered": answered, "answered_before": before, "problems": failed,
        }));
    }
    let before = if before > 0 { format!(", {before} were there already") } else { String::new() };
    output.line(format_args!("{}: {answered} pictures answered{before}", path.display()))
}

/// A bar with rate and what is left, where somebody looks at it and no answers go by.
fn progress(pictures: usize, has_table: bool) -> ProgressBar {
    if !has_table || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(pictures as u64);
    let style = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} pictures, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
