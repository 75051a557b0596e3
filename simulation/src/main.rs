//! Runs the study and prints it as a table; see `scripts/bench network`.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ocelli_simulation::experiment::{self, Extent, Row};
use ocelli_simulation::plots;
use ocelli_simulation::report::{Percentiles, Waits};

/// Simulate hundreds of nodes, and print how blocks travel and how often they are lost
#[derive(Debug, Parser)]
struct Args {
    /// Run a few small simulations only, to see that they work
    #[arg(long)]
    quick: bool,

    /// Decides everything that chance decides
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Run only the experiment of this name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Run only rows with this in their name
    #[arg(long, value_name = "TEXT")]
    row: Option<String>,

    /// Print the rows as JSON, one a line
    #[arg(long)]
    json: bool,

    /// Run nothing: take the rows from a file that --json was written to
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "row", "seed"])]
    rows: Option<PathBuf>,

    /// Draw the figures into this folder
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed there is nobody to tell.
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut stdout = io::stdout().lock();
    let mut print = |row: &Row| {
        let text = if args.json { serde_json::to_string(row).map_err(io::Error::from)? } else { line(row) };
        writeln!(stdout, "{text}").and_then(|()| stdout.flush())
    };
    let rows: Vec<Row> = match &args.rows {
        Some(file) => {
            let rows: Vec<Row> =
                fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            rows.iter().try_for_each(&mut print)?;
            rows
        }
        None => {
            let extent = if args.quick { Extent::Quick } else { Extent::Full };
            let mut printed = Ok(());
            let is_asked_for = |experiment: &str, name: &str| {
                args.only.as_deref().is_none_or(|only| only == experiment)
                    && args.row.as_deref().is_none_or(|text| name.contains(text))
            };
            let rows = experiment::all(extent, args.seed, is_asked_for, |row| {
                if printed.is_ok() {
                    printed = print(row);
                }
            });
            printed?;
            rows
        }
    };
    if rows.is_empty() {
        let names = experiment::names();
        let asked = (&args.only, &args.row);
        return Err(format!("found no experiment and row {asked:?}, expected one of {}", names.join(", ")).into());
    }
    if let Some(folder) = &args.plots {
        fs::create_dir_all(folder)?;
        for (name, svg) in plots::draw(&rows)? {
            fs::write(folder.join(name), svg)?;
        }
    }
    let is_wrong = |row: &&Row| {
        let may_end_apart = experiment::MAY_END_APART.contains(&row.experiment.as_str());
        row.report.wrong_bans > 0 || row.report.tips != 1 && !may_end_apart
    };
    match rows.iter().find(is_wrong) {
        None => Ok(()),
        Some(row) => Err(format!(
            "{}, {}: found {} tips and {} bans of honest nodes, expected one and none",
            row.experiment, row.name, row.report.tips, row.report.wrong_bans
        )
        .into()),
    }
}

fn line(row: &Row) -> String {
    let times = |times: Option<Percentiles>| {
        times.map_or_else(
            || "–".into(),
            |times| {
                let [p50, p95, p99] = [times.p50, times.p95, times.p99].map(|time| time as f64 / 1e3);
                format!("{p50:.2}, {p95:.2}, {p99:.2}")
            },
        )
    };
    let report = &row.report;
    let waits = |waits: Option<Waits>| {
        waits.map_or_else(
            || "–".into(),
            |waits| {
                let [announced, complete, validated] =
                    [waits.announced, waits.complete, waits.validated].map(|time| time as f64 / 1e3);
                let stale = waits.stale_percent(row.spacing);
                format!("{announced:.3}, {complete:.3}, {validated:.3} | {stale:.1} %")
            },
        )
    };
    let blocks = format!(
        "| {} | {} | {} | {} | {} of {} | {} |",
        row.experiment,
        row.name,
        times(report.validated_ms),
        waits(report.waits),
        report.blocks.stale,
        report.blocks.honest,
        report.deepest_reorganisation,
    );
    if let Some(tasks) = &report.tasks {
        return format!(
            "{blocks} {} of {} tasks on the chain | in mempools after {} s | {} B a node and task | {:.2} % missing in blocks |",
            tasks.confirmed,
            tasks.submitted,
            times(tasks.arrival_ms),
            tasks.relay_bytes,
            tasks.missing_ppm as f64 / 1e4,
        );
    }
    let dishonest = if report.blocks.dishonest == 0 {
        String::new()
    } else {
        format!(
            " {:.1} % of {} %: {} of {} blocks | {} |",
            report.blocks.dishonest_percent(),
            row.dishonest_hash_percent,
            report.blocks.dishonest_on_chain,
            report.blocks.dishonest,
            waits(report.dishonest_waits),
        )
    };
    let tasks = (row.tasks_per_block * report.blocks.on_chain() as u64).max(1);
    format!(
        "{blocks} {:.1} kB |{dishonest} {} | {} behind | {} |",
        row.announcement_bytes as f64 / 1e3,
        times(report.heal_ms),
        report.behind,
        report.received_bytes / tasks,
    )
}
