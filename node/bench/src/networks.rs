//! `ocelli bench networks`.

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocelli_model::backend::{Kernel, KernelBackend};
use ocelli_model::sample::{self, networks};
use ocelli_model::{Backend as _, BackendError, Model, zoo};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{percentile, rounded};

/// What is measured unless something is named.
const USUAL: [&str; 5] = ["cifar10-cnn", "cifar10-resnet", "mobilenet-v2", "efficientnet-lite0", "resnet-50"];
/// Follows the name of a standard network whose activations have 8 bits, and not 7.
const EIGHT_BITS: &str = "-8bit";
/// Images whose logits are written.
const WRITTEN: usize = 4;
/// A median of fewer runs says nothing.
const MIN_RUNS: usize = 5;

/// Measure the built-in models, and standard networks of 224x224 with weights by chance, on the integer kernels
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network, by name; may be repeated. A standard one with -8bit after its name has activations of 8 bits, else of 7
    #[arg(long = "network", value_name = "NAME", default_values_t = USUAL.map(str::to_owned))]
    networks: Vec<String>,

    /// Images that are run together; may be repeated
    #[arg(long = "batch", value_name = "NUMBER", default_values_t = [1, 8], value_parser = clap::value_parser!(u32).range(1..=256))]
    batches: Vec<u32>,

    /// Threads; one for each core unless given
    #[arg(long, value_name = "NUMBER", default_value_t = KernelBackend::cores())]
    threads: NonZeroUsize,

    /// Instructions to use; the fastest that this processor has unless given
    #[arg(long, value_name = "NAME", default_value_t = Kernel::best())]
    kernel: Kernel,

    /// Measure each batch size for at least so many milliseconds
    #[arg(long, value_name = "NUMBER", default_value_t = 700, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    milliseconds: u64,

    /// Measure nothing, but write into this folder each network's file, some pixels and its logits for them
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: &'static str,
    threads: usize,
    results: Vec<Timing>,
}

#[derive(Debug, Serialize)]
struct Timing {
    network: String,
    batch: usize,
    /// Batches that were timed.
    runs: usize,
    /// For an image, at best and in the median.
    best_ms: f64,
    median_ms: f64,
    images_per_second: f64,
    /// Of the packed model and the buffers of all threads.
    memory_bytes: usize,
}

/// A built-in model, or a standard network with weights by chance.
///
/// # Errors
/// For a name that is neither's.
pub(super) fn model(name: &str) -> Result<Model, CommandError> {
    if let Some(model) = zoo::get(name) {
        return Ok(model);
    }
    let (shape, high) = name.strip_suffix(EIGHT_BITS).map_or((name, 127), |shape| (shape, 255));
    let graph = networks::by_name(shape, high).ok_or_else(|| {
        let known: Vec<&str> = zoo::names().into_iter().chain(networks::NAMES).collect();
        CommandError::failed(format!("found no network {name:?}")).with_hint(format!("try one of {}", known.join(", ")))
    })?;
    Ok(sample::trained(graph, &mut sample::seeded(1)))
}

/// Runs the command.
///
/// # Errors
/// For a name of no network, a kernel that this processor cannot run, and when the result cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let Args { kernel, threads, .. } = *args;
    let mut report = Report { kernel: kernel.name(), threads: threads.get(), results: Vec::new() };
    for name in &args.networks {
        let model = model(name)?;
        // One at a time in memory.
        let mut backend = KernelBackend::with(kernel, threads)?;
        if let Some(folder) = &args.write {
            write(folder, name, &model, &mut backend)?;
            continue;
        }
        for batch in &args.batches {
            let duration = Duration::from_millis(args.milliseconds);
            report.results.push(measure(&mut backend, name, &model, *batch as usize, duration)?);
        }
    }
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

/// `NAME.safetensors`, `NAME.pixels` (u8, CHW) and `NAME.logits` (i32, little-endian), for others who run the same network.
fn write(folder: &Path, name: &str, model: &Model, backend: &mut KernelBackend) -> Result<(), CommandError> {
    let pixels = noise(model, WRITTEN);
    let images: Vec<&[u8]> = pixels.chunks_exact(model.pixels()).collect();
    let logits = backend.logits(model, &images)?;
    let logits: Vec<u8> = logits.into_iter().flatten().flat_map(i32::to_le_bytes).collect();
    for (kind, bytes) in [("safetensors", model.bytes()), ("pixels", &pixels), ("logits", &logits)] {
        let path = folder.join(format!("{name}.{kind}"));
        fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The pixels of some images.
fn noise(model: &Model, images: usize) -> Vec<u8> {
    let mut pixels = vec![0; images * model.pixels()];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut pixels);
    pixels
}

fn measure(
    backend: &mut KernelBackend,
    name: &str,
    model: &Model,
    batch: usize,
    duration: Duration,
) -> Result<Timing, BackendError> {
    let pixels = noise(model, batch);
    let images: Vec<&[u8]> = pixels.chunks_exact(model.pixels()).collect();
    backend.logits(model, &images)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < MIN_RUNS || start.elapsed() < duration {
        let begin = Instant::now();
        black_box(backend.logits(model, &images)?);
        times.push(begin.elapsed().as_secs_f64() * 1e3 / batch as f64);
    }
    times.sort_by(f64::total_cmp);
    let median = percentile(&times, 50).copied().unwrap_or_default();
    Ok(Timing {
        network: name.into(),
        batch,
        runs: times.len(),
        best_ms: rounded(times[0]),
        median_ms: rounded(median),
        images_per_second: rounded(1e3 / median),
        memory_bytes: backend.memory(model)?,
    })
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let Report { kernel, threads, results } = report;
    if results.is_empty() {
        return Ok(());
    }
    output.line(format_args!("kernel {kernel}, {threads} threads; ms an image"))?;
    output.line(format_args!(
        "{:<24} {:>5} {:>9} {:>9} {:>10} {:>11}",
        "NETWORK", "BATCH", "BEST", "MEDIAN", "IMAGES/S", "MEMORY MIB"
    ))?;
    for Timing { network, batch, best_ms, median_ms, images_per_second, memory_bytes, .. } in results {
        let memory = *memory_bytes as f64 / f64::from(1 << 20);
        output.line(format_args!(
            "{network:<24} {batch:>5} {best_ms:>9.3} {median_ms:>9.3} {images_per_second:>10.1} {memory:>11.1}"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_names() {
        for name in
            USUAL.into_iter().filter(|name| name.starts_with("cifar")).chain(["mobilenet-v2", "mobilenet-v2-8bit"])
        {
            assert!(model(name).is_ok(), "{name}");
        }
        let error = model("mobilenet-v9").expect_err("no such network").to_string();
        assert!(error.contains("found no network \"mobilenet-v9\""), "{error}");
    }
}
