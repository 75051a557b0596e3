//! Where nodes are, and how long and wide the lines between them are.
//!
//! Regions, latencies and bandwidths are those of the simulator SimBlock (Aoki, Otsuki, Kaneko, Banno and Shudo, "SimBlock:
//! A Blockchain Network Simulator", 2019; its file `NetworkConfiguration.java`): Bitcoin's nodes by region in 2019,
//! latencies from a provider's statistics, and bandwidths from a public speed test. SimBlock takes the latencies as those
//! of one way. They are round trips by their size (light takes 40 ms from North America to Europe, the table has 124 ms),
//! and are taken as such here; `latency_percent` 200 is SimBlock's reading.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region(usize);

/// North America, Europe, South America, Asia and the Pacific, Japan, Australia: nodes of 10,000.
const SHARES: [u64; 6] = [3_316, 4_998, 90, 1_177, 224, 195];

/// Milliseconds of a round trip.
const ROUND_TRIPS: [[u64; 6]; 6] = [
    [32, 124, 184, 198, 151, 189],
    [124, 11, 227, 237, 252, 294],
    [184, 227, 88, 325, 301, 322],
    [198, 237, 325, 85, 58, 198],
    [151, 252, 301, 58, 12, 126],
    [189, 294, 322, 198, 126, 16],
];

/// Bits a second up and down.
const BANDWIDTHS: [(u64, u64); 6] = [
    (19_200_000, 52_000_000),
    (20_700_000, 40_000_000),
    (5_800_000, 18_000_000),
    (15_700_000, 22_800_000),
    (10_200_000, 22_800_000),
    (11_300_000, 29_900_000),
];

/// Percent of its region's bandwidth that a node has, equally often each: a guess, as the source has means only.
const SPREAD: [u64; 4] = [25, 50, 100, 225];

/// A node's line to the world, in bytes a second.
#[derive(Debug, Clone, Copy)]
pub struct Bandwidth {
    /// What it sends.
    pub up: u64,
    /// What it receives.
    pub down: u64,
}

/// Draws a region, as nodes are spread.
pub fn region(random: &mut ChaCha8Rng) -> Region {
    let mut at = random.random_range(0..SHARES.iter().sum());
    let found = SHARES.iter().position(|share| {
        let here = at < *share;
        at = at.saturating_sub(*share);
        here
    });
    Region(found.unwrap_or(0))
}

/// Draws a node's line, with a factor on all lines in percent.
pub fn bandwidth(region: Region, factor: u64, random: &mut ChaCha8Rng) -> Bandwidth {
    let percent = SPREAD[random.random_range(0..SPREAD.len())] * factor / 100;
    let (up, down) = BANDWIDTHS[region.0];
    Bandwidth { up: up * percent / 100 / 8, down: down * percent / 100 / 8 }
}

/// Microseconds of a round trip, without what varies.
pub fn round_trip(one: Region, other: Region) -> u64 {
    ROUND_TRIPS[one.0][other.0] * 1_000
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn regions_have_their_shares_and_times_are_symmetric() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 6];
        for _ in 0..10_000 {
            counts[region(&mut random).0] += 1;
        }
        for (count, share) in counts.into_iter().zip(SHARES) {
            assert!((share.saturating_sub(200)..share + 200).contains(&count), "{count} of {share}");
        }
        for (one, times) in ROUND_TRIPS.iter().enumerate() {
            for (other, time) in times.iter().enumerate() {
                assert_eq!(*time, ROUND_TRIPS[other][one]);
            }
        }
    }
}
