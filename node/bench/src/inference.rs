//! `ocelli bench inference`.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ocelli_model::{Backend, BackendError, Model, ReferenceBackend, zoo};
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{percentile, rounded};

/// Images run together.
const BATCHES: [usize; 4] = [1, 8, 64, 256];

/// A percentile of fewer runs says nothing.
const MIN_RUNS: usize = 5;

/// Makes the images; it does not matter to the time what is in them.
const SEED: u64 = 1;

/// Signatures that are verified in turns, each of another key.
const SIGNATURES: usize = 64;

/// Measure how fast the built-in models run on this machine's device, beside signature checks and the scalar reference
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure each batch size for at least so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Report {
    device: String,
    kernel: String,
    /// Threads that run the models; the reference uses one.
    threads: usize,
    /// The peer: Ed25519 `verify_strict`, the public key's decoding included, on every core at once.
    verifications_per_second: f64,
    /// Bytes of this process in memory once models and device are ready, before the first batch; only on Linux.
    resident_bytes: Option<u64>,
    results: Vec<Timing>,
}

#[derive(Debug, Serialize)]
struct Timing {
    model: String,
    batch: usize,
    /// Batches that were timed.
    runs: usize,
    images_per_second: f64,
    /// Of a batch, in microseconds.
    p50_us: u64,
    /// Of a batch, in microseconds.
    p99_us: u64,
    /// The peer: one image after the other on one thread.
    reference_images_per_second: f64,
    /// `images_per_second` over that of the peer.
    ratio_to_reference: f64,
    /// `images_per_second` over the signature checks per second that were measured just before.
    ratio_to_verification: f64,
}

/// Runs the command.
///
/// # Errors
/// For a device that cannot be used, is not exact, or fails.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let models: Vec<Model> = zoo::names().into_iter().filter_map(zoo::get).collect();
    let mut backend = args.device.open(&models)?;
    let mut report = Report {
        device: backend.name(),
        kernel: backend.kernel_name(),
        threads: backend.threads(),
        verifications_per_second: 0.0,
        resident_bytes: resident_bytes(),
        results: Vec::new(),
    };
    let duration = Duration::from_secs(args.seconds);
    let mut verifications = Vec::new();
    for model in &models {
        let reference = Sample::take(&mut ReferenceBackend, model, 1, duration)?;
        let verification = verifications_per_second(duration);
        verifications.push(verification);
        for batch in BATCHES {
            let sample = Sample::take(&mut *backend, model, batch, duration)?;
            report.results.push(Timing {
                model: model.name().to_owned(),
                batch,
                runs: sample.times.len(),
                images_per_second: rounded(sample.images_per_second()),
                p50_us: sample.percentile_us(50),
                p99_us: sample.percentile_us(99),
                reference_images_per_second: rounded(reference.images_per_second()),
                ratio_to_reference: rounded(sample.images_per_second() / reference.images_per_second()),
                ratio_to_verification: rounded(sample.images_per_second() / verification),
            });
        }
    }
    verifications.sort_by(f64::total_cmp);
    report.verifications_per_second = rounded(percentile(&verifications, 50).copied().unwrap_or_default());
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let Report { device, kernel, threads, verifications_per_second, .. } = report;
    output.line(format_args!("{device}, kernel {kernel}, {threads} threads"))?;
    output.line(format_args!("Ed25519 verify_strict on every core: {verifications_per_second:.0} /s"))?;
    output.line(format_args!(
        "{:<16} {:>5} {:>9} {:>9} {:>9} {:>12} {:>15}",
        "MODEL", "BATCH", "IMAGES/S", "P50 US", "P99 US", "TO REFERENCE", "TO VERIFICATION"
    ))?;
    for row in &report.results {
        output.line(format_args!(
            "{:<16} {:>5} {:>9.1} {:>9} {:>9} {:>12.2} {:>15.2}",
            row.model,
            row.batch,
            row.images_per_second,
            row.p50_us,
            row.p99_us,
            row.ratio_to_reference,
            row.ratio_to_verification
        ))?;
    }
    Ok(())
}

/// Batches of one size, timed.
struct Sample {
    batch: usize,
    /// Ascending.
    times: Vec<Duration>,
}

impl Sample {
    /// Runs batches for so long, after one that is not timed.
    fn take(backend: &mut dyn Backend, model: &Model, batch: usize, duration: Duration) -> Result<Self, BackendError> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut pixels = vec![0; batch * model.pixels()];
        random.fill_bytes(&mut pixels);
        let images: Vec<&[u8]> = pixels.chunks_exact(model.pixels()).collect();
        backend.logits(model, &images)?;
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < MIN_RUNS || start.elapsed() < duration {
            let begin = Instant::now();
            black_box(backend.logits(model, &images)?);
            times.push(begin.elapsed());
        }
        times.sort();
        Ok(Self { batch, times })
    }

    fn images_per_second(&self) -> f64 {
        let total: Duration = self.times.iter().sum();
        (self.batch * self.times.len()) as f64 / total.as_secs_f64()
    }

    fn percentile_us(&self, percent: usize) -> u64 {
        percentile(&self.times, percent).map_or(0, |time| time.as_micros() as u64)
    }
}

/// Checks signatures over messages of 32 bytes for so long, on as many threads as there are cores.
fn verifications_per_second(duration: Duration) -> f64 {
    let signed: Vec<_> = (0..SIGNATURES as u8).map(sign).collect();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let start = Instant::now();
    let verify = || {
        let mut checks = 0usize;
        while checks == 0 || start.elapsed() < duration {
            for (public_key, message, signature) in &signed {
                let key = VerifyingKey::from_bytes(public_key).expect("it was made from a private key");
                assert!(black_box(key.verify_strict(message, signature)).is_ok(), "it was signed with this key");
            }
            checks += signed.len();
        }
        checks
    };
    let checks: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(verify)).collect();
        workers.into_iter().map(|worker| worker.join().expect("good signatures are verified without a panic")).sum()
    });
    checks as f64 / start.elapsed().as_secs_f64()
}

/// A public key, a message and its signature, made from a seed.
fn sign(seed: u8) -> ([u8; 32], [u8; 32], Signature) {
    let (key, message) = (SigningKey::from_bytes(&[seed; 32]), [!seed; 32]);
    (key.verifying_key().to_bytes(), message, key.sign(&message))
}

/// What of this process is in memory, where the system says so as Linux does.
pub(super) fn resident_bytes() -> Option<u64> {
    parse_resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_systems_status() {
        let rows = [
            ("Name:\tocelli\nVmHWM:\t  200 kB\nVmRSS:\t   40 kB\nThreads:\t3\n", Some(40_960)),
            ("VmRSS:\t40 MB\n", None),
            ("VmRSS:\t kB\n", None),
            ("VmHWM:\t40 kB\n", None),
            ("", None),
        ];
        for (status, expected) in rows {
            assert_eq!(parse_resident_bytes(status), expected, "{status:?}");
        }
    }

    #[test]
    fn a_sample_tells_its_rate_and_percentiles() {
        let sample = Sample { batch: 8, times: [10, 20, 30, 40].map(Duration::from_millis).into() };
        assert_eq!(sample.images_per_second(), 320.0);
        assert_eq!((sample.percentile_us(50), sample.percentile_us(99)), (20_000, 40_000));
    }

    #[test]
    fn signatures_are_verified_at_a_rate() {
        assert!(verifications_per_second(Duration::ZERO) > 0.0);
    }

    #[test]
    fn every_sample_has_enough_runs() {
        let model = zoo::get("cifar10-cnn").expect("built in");
        let sample = Sample::take(&mut ReferenceBackend, &model, 2, Duration::ZERO).expect("the reference runs");
        assert_eq!(sample.times.len(), MIN_RUNS);
        assert!(sample.times.is_sorted());
    }
}
