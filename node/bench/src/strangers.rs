//! `ocelli bench strangers`.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ocelli_model::backend::{Kernel, KernelBackend};
use ocelli_model::file::ModelFile;
use ocelli_model::sample::{self, networks, worst};
use ocelli_model::{Backend as _, Model};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use serde::Serialize;

use super::rounded;

/// Measure what it takes to load, to plan and to run the worst models that strangers may publish, beside MobileNetV2
///
/// A block may be of tasks on models that a node has not loaded, 128 MiB of them. Times are on one thread, the best of some.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Load, plan and run each so many times
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,

    /// Instructions to use; the fastest that this processor has unless given
    #[arg(long, value_name = "NAME", default_value_t = Kernel::best())]
    kernel: Kernel,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: &'static str,
    models: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    /// Of its file.
    bytes: usize,
    cost: u64,
    /// Reading its file, and proving it exact.
    load_ms: f64,
    /// What kernels need of it.
    plan_ms: f64,
    run_ms: f64,
    /// Of running, for the cost, over that of MobileNetV2.
    run_ratio: f64,
}

/// Runs the command.
///
/// # Errors
/// For a kernel that this processor cannot run, and when the result cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let small = worst::SMALL_NAMES.map(|name| (format!("small, {name}"), worst::small_by_name(name)));
    let large = worst::NAMES.map(|name| (format!("large, {name}"), worst::by_name(name)));
    let peer = networks::by_name("mobilenet-v2", 127).expect("it has this name");
    let peer = sample::trained(peer, &mut sample::seeded(1));
    let mut models = vec![measure("mobilenet-v2".into(), peer.bytes(), args)?];
    for (name, file) in small.into_iter().chain(large) {
        let file = file.as_ref().map(ModelFile::to_bytes).expect("it has this name");
        let file = file.map_err(|error| CommandError::failed(error.to_string()))?;
        models.push(measure(name, &file, args)?);
    }
    let base = models[0].run_ratio;
    for row in &mut models {
        row.run_ratio = rounded(row.run_ratio / base);
    }
    let report = Report { kernel: args.kernel.name(), models };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format_args!("kernel {}, one thread", report.kernel))?;
    output.line(format_args!(
        "{:<20} {:>10} {:>12} {:>9} {:>9} {:>9} {:>8}",
        "MODEL", "BYTES", "COST", "LOAD, MS", "PLAN, MS", "RUN, MS", "FOR COST"
    ))?;
    for Row { model, bytes, cost, load_ms, plan_ms, run_ms, run_ratio } in &report.models {
        output.line(format_args!(
            "{model:<20} {bytes:>10} {cost:>12} {load_ms:>9.3} {plan_ms:>9.3} {run_ms:>9.3} {run_ratio:>8.2}"
        ))?;
    }
    Ok(())
}

fn measure(name: String, file: &[u8], args: &Args) -> Result<Row, CommandError> {
    let mut best = [Duration::MAX; 3];
    let mut cost = 0;
    for _ in 0..args.runs {
        let begin = Instant::now();
        let model = Model::from_bytes(file).map_err(|error| CommandError::failed(error.to_string()))?;
        let load = begin.elapsed();
        let mut backend = KernelBackend::with(args.kernel, NonZeroUsize::MIN).hint(|| "try: ocelli doctor")?;
        let begin = Instant::now();
        backend.memory(&model)?;
        let plan = begin.elapsed();
        let pixels: Vec<u8> = (0..model.pixels()).map(|at| (at * 31 % 251) as u8).collect();
        // Memory is given at the first touch.
        backend.logits(&model, &[&pixels])?;
        let begin = Instant::now();
        std::hint::black_box(backend.logits(&model, &[&pixels])?);
        for (best, time) in best.iter_mut().zip([load, plan, begin.elapsed()]) {
            *best = time.min(*best);
        }
        cost = model.cost();
    }
    let [load_ms, plan_ms, run_ms] = best.map(|time| time.as_secs_f64() * 1e3);
    Ok(Row {
        model: name,
        bytes: file.len(),
        cost,
        load_ms: rounded(load_ms),
        plan_ms: rounded(plan_ms),
        run_ms: rounded(run_ms),
        run_ratio: run_ms / cost as f64,
    })
}
