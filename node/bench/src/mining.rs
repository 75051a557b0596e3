//! `ocelli bench mining`.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use ocelli_consensus::{Header, Network};
use ocelli_node::miner::{hash_rate_per_thread, kernel, rate};
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use serde::Serialize;

use super::rounded;

/// SHA-256 compressions that a nonce costs: the header's last block from the midstate, and the second SHA-256.
const COMPRESSIONS: u64 = 2;

/// Hashes between two looks at the clock.
const STRIDE: u64 = 8_192;

/// Measure how many nonces a thread tries per second, and how many it would without the midstate
///
/// Where the system tells (Linux), a second is one that the thread was running, so that other work on the machine does not
/// count, as in `openssl speed`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure each way for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Run so many threads at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
}

#[derive(Debug, Serialize)]
struct Rates {
    threads: u16,
    /// What hashes the nonces.
    kernel: &'static str,
    /// Of one thread, the mean over all.
    hashes_per_second: u64,
    /// Of one thread.
    compressions_per_second: u64,
    /// The peer: one thread that hashes the whole header for each nonce.
    whole_header_hashes_per_second: u64,
    /// `hashes_per_second` over that of the peer.
    ratio_to_whole_header: f64,
}

/// Runs the command.
///
/// # Errors
/// When the result cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let duration = Duration::from_secs(args.seconds);
    let genesis = Network::builtin("local").map(|network| network.genesis);
    let header = genesis.ok_or_else(|| CommandError::failed("found no network `local` in this build"))?;
    let hashes_per_second = mean(args.threads, || hash_rate_per_thread(duration));
    let whole = mean(args.threads, || whole_header_rate(header.clone(), duration));
    let rates = Rates {
        threads: args.threads,
        kernel: kernel(),
        hashes_per_second,
        compressions_per_second: hashes_per_second * COMPRESSIONS,
        whole_header_hashes_per_second: whole,
        ratio_to_whole_header: rounded(hashes_per_second as f64 / whole.max(1) as f64),
    };
    if output.is_json() {
        return output.json(&rates);
    }
    output.rows(&[
        ("threads", rates.threads.to_string()),
        ("kernel", rates.kernel.into()),
        ("hashes per second and thread", rates.hashes_per_second.to_string()),
        ("compressions per second and thread", rates.compressions_per_second.to_string()),
        ("without the midstate, hashes", rates.whole_header_hashes_per_second.to_string()),
        ("ratio to that", format!("{:.2}", rates.ratio_to_whole_header)),
    ])
}

/// The mean of what so many threads measure at the same time.
fn mean(threads: u16, measure: impl Fn() -> u64 + Sync) -> u64 {
    let sum: u64 = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&measure)).collect();
        running.into_iter().map(|thread| thread.join().expect("measuring does not panic")).sum()
    });
    sum / u64::from(threads).max(1)
}

/// Whole headers hashed per second on the calling thread.
fn whole_header_rate(mut header: Header, duration: Duration) -> u64 {
    rate(duration, || {
        for _ in 0..STRIDE {
            header.nonce = header.nonce.wrapping_add(1);
            black_box(header.hash());
        }
        STRIDE
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_thread_counts_once() {
        let calls = AtomicU64::new(0);
        assert_eq!(mean(4, || 10 * (1 + calls.fetch_add(1, Ordering::Relaxed))), 25);
    }
}
