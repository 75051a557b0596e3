//! `ocelli bench layers`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use ocelli_model::backend::{Kernel, KernelBackend, Method, limit};
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use super::{networks, rounded};

/// At least as many as run together.
const IMAGES: usize = 8;

/// Measure on one thread what each layer of a model takes, beside what the processor's instructions could do at most
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A built-in model or a standard network, by name
    #[arg(long, value_name = "NAME", default_value = "cifar10-cnn")]
    model: String,

    /// Instructions to use; the fastest that this processor has unless given
    #[arg(long, value_name = "NAME", default_value_t = Kernel::best())]
    kernel: Kernel,

    /// Run the model so many times and take each layer's best time
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    kernel: &'static str,
    /// Images that run together.
    images: usize,
    /// The most vector products a second of one thread, by method.
    products_per_second: BTreeMap<&'static str, u64>,
    steps: Vec<Step>,
    methods: Vec<MethodShare>,
}

/// The layers of a kind together.
#[derive(Debug, Serialize)]
struct MethodShare {
    method: &'static str,
    nanoseconds: u64,
    share: f64,
    of_limit: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Step {
    /// Its name, or `input` for laying out the pixels.
    layer: String,
    method: &'static str,
    /// The shortest time, for one image.
    nanoseconds: u64,
    /// Of the sum of all steps.
    share: f64,
    /// Vector products for one image.
    products: u64,
    /// Products a second over the most that there can be; none for what has no products.
    of_limit: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// For a name of no built-in model, and when the result cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let Args { model: name, kernel, rounds } = args;
    let (kernel, model) = (*kernel, networks::model(name)?);
    let mut backend = KernelBackend::with(kernel, NonZeroUsize::MIN).hint(|| "try another --kernel, or none")?;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let images: Vec<Vec<u8>> = (0..IMAGES)
        .map(|_| {
            let mut pixels = vec![0; model.pixels()];
            random.fill_bytes(&mut pixels);
            pixels
        })
        .collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let (count, profile) = backend.profile(&model, &images, *rounds as usize).hint(|| "please report it")?;
    let total: u128 = profile.iter().map(|step| step.time.as_nanos()).sum();
    let mut limits = BTreeMap::new();
    for step in &profile {
        limits.entry(step.method.name()).or_insert_with(|| limit(kernel, step.method));
    }
    let steps = profile
        .iter()
        .map(|step| {
            let layer = match step.method {
                Method::Pack => "input".into(),
                _ => model.graph().layers()[step.layer].name.clone(),
            };
            let seconds = step.time.as_secs_f64();
            Step {
                layer,
                method: step.method.name(),
                nanoseconds: (step.time.as_nanos() / count as u128) as u64,
                share: rounded(step.time.as_nanos() as f64 / total.max(1) as f64),
                products: step.products / count as u64,
                of_limit: limits[step.method.name()].map(|limit| rounded(step.products as f64 / seconds / limit)),
            }
        })
        .collect();
    let methods = limits.iter().map(|(name, limit)| {
        let all = || profile.iter().filter(|step| step.method.name() == *name);
        let time: u128 = all().map(|step| step.time.as_nanos()).sum();
        let products: u64 = all().map(|step| step.products).sum();
        MethodShare {
            method: name,
            nanoseconds: (time / count as u128) as u64,
            share: rounded(time as f64 / total.max(1) as f64),
            of_limit: limit.map(|limit| rounded(products as f64 / (time as f64 / 1e9) / limit)),
        }
    });
    let report = Report {
        methods: methods.collect(),
        model: name.clone(),
        kernel: kernel.name(),
        images: count,
        products_per_second: limits.iter().filter_map(|(name, limit)| Some((*name, (*limit)? as u64))).collect(),
        steps,
    };
    if output.is_json() {
        return output.json(&report);
    }
    let Report { model, kernel, images, .. } = &report;
    output.line(format_args!("{model} on kernel {kernel}, {images} images together, one thread"))?;
    output.line(format_args!(
        "{:<12} {:<17} {:>12} {:>7} {:>13}",
        "layer", "method", "ns an image", "share", "of the limit"
    ))?;
    let of = |of_limit: &Option<f64>| of_limit.map_or_else(String::new, |of_limit| format!("{of_limit:.2}"));
    for Step { layer, method, nanoseconds, share, of_limit, .. } in &report.steps {
        let of_limit = of(of_limit);
        output.line(format_args!("{layer:<12} {method:<17} {nanoseconds:>12} {share:>7.2} {of_limit:>13}"))?;
    }
    for MethodShare { method, nanoseconds, share, of_limit } in &report.methods {
        let of_limit = of(of_limit);
        output.line(format_args!("{:<12} {method:<17} {nanoseconds:>12} {share:>7.2} {of_limit:>13}", "all"))?;
    }
    Ok(())
}
