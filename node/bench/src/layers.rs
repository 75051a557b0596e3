//! `ocelli bench layers`.

use std::collections::BTreeMap;

use ocelli_model::backend::{Kernel, KernelBackend, Method, limit};
use ocelli_model::zoo;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Output;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use super::rounded;

/// Measure on one thread what each layer of a model takes, beside what the processor's instructions could do at most
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The built-in model, by name
    #[arg(long, value_name = "NAME", default_value = "cifar10-cnn")]
    model: String,

    /// Run the model so many times and take each layer's best time
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
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
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let name = &args.model;
    let model = zoo::get(name).ok_or_else(|| {
        CommandError::failed(format!("found no built-in model {name:?}")).with_hint("try: ocelli model list")
    })?;
    let kernel = Kernel::best();
    let mut backend = KernelBackend::open().hint(|| "this is a fault of the program; please report it")?;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let images: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            let mut pixels = vec![0; model.pixels()];
            random.fill_bytes(&mut pixels);
            pixels
        })
        .collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let (count, profile) = backend.profile(&model, &images, args.rounds as usize).hint(|| "please report it")?;
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
    let report = Report {
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
    for Step { layer, method, nanoseconds, share, of_limit, .. } in &report.steps {
        let of_limit = of_limit.map_or_else(String::new, |of_limit| format!("{of_limit:.2}"));
        output.line(format_args!("{layer:<12} {method:<17} {nanoseconds:>12} {share:>7.2} {of_limit:>13}"))?;
    }
    Ok(())
}
