//! Games with timestamps and hash rate that were published against other difficulty rules, replayed against ours, and the
//! table of `docs/difficulty.md`.
//!
//! Blocks take the time that they take on average, so that nothing here is random: work of the target over hash rate.
//! Whoever plays has all of the hash rate, which is the worst case, and no clock but its own: times may be anything above
//! the parent's and at most 30 s ahead of the true time, because others hold such blocks back.

use ocelli_consensus::difficulty::{Anchor, next_target};
use ocelli_consensus::target::{CompactTarget, Target};
use ocelli_consensus::{Network, Parameters, U256};

/// Seconds that a block may be ahead of the clock of others.
const AHEAD: u64 = 30;
/// Hashes per second: far above what the easiest target needs.
const RATE: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

fn testnet() -> Parameters {
    Network::builtin("testnet").unwrap().parameters
}

/// What sets the difficulty: the target after these block times, the last of which is the parent's.
trait Rule {
    fn next(&mut self, times: &[u64]) -> Target;

    /// The earliest time that the next block may have.
    fn earliest(&self, times: &[u64]) -> u64 {
        times[times.len() - 1] + 1
    }
}

/// Ours, as `rules::expected_target` has it: block 1 is the anchor.
struct Asert(Parameters);

impl Rule for Asert {
    fn next(&mut self, times: &[u64]) -> Target {
        let easiest = self.0.easiest_target.to_target().unwrap();
        let (height, last) = (times.len() as u64 - 1, times[times.len() - 1]);
        if height == 0 {
            return easiest;
        }
        let parent_time = times[1] as i64 - self.0.spacing as i64;
        let anchor = Anchor { height: 1, target: easiest, parent_time };
        next_target(anchor, height, last, self.0.spacing, self.0.half_life, easiest).to_target().unwrap()
    }
}

/// Bitcoin's, with its period of 2016 blocks that measures only 2015 intervals.
struct Period {
    spacing: u64,
    target: Target,
    easiest: Target,
}

const PERIOD: usize = 2016;

impl Rule for Period {
    fn next(&mut self, times: &[u64]) -> Target {
        if times.len().is_multiple_of(PERIOD) {
            let expected = self.spacing * PERIOD as u64;
            let took = times[times.len() - 1].saturating_sub(times[times.len() - PERIOD]);
            let took = took.clamp(expected / 4, expected * 4);
            let next = Target(self.target.0 / U256::from(expected) * U256::from(took));
            self.target = next.min(self.easiest);
        }
        self.target
    }

    /// After the median of the last eleven, which may be long before the parent.
    fn earliest(&self, times: &[u64]) -> u64 {
        let mut last = times[times.len().saturating_sub(11)..].to_vec();
        last.sort_unstable();
        last[last.len() / 2] + 1
    }
}

/// Bitcoin Cash's emergency adjustment of August 2017 on top of it: 20 % easier after a block whenever the last 6 took
/// 72 block spacings (12 h there) or more.
struct Emergency(Period);

impl Rule for Emergency {
    fn next(&mut self, times: &[u64]) -> Target {
        let normal = self.0.next(times);
        let slow = times.len() > 6 && times[times.len() - 1] - times[times.len() - 7] >= 72 * self.0.spacing;
        if slow && !times.len().is_multiple_of(PERIOD) {
            self.0.target = Target(normal.0 + normal.0 / U256::from(4)).min(self.0.easiest);
        }
        self.0.target
    }
}

/// A chain that somebody mines, and the true time in milliseconds.
struct Mining<R> {
    rule: R,
    times: Vec<u64>,
    now: u64,
}

impl<R: Rule> Mining<R> {
    /// Mines honestly until difficulty has settled at the hash rate.
    fn settled(rule: R) -> Self {
        let start = 1_000_000;
        let mut mining = Self { rule, times: vec![start], now: start * 1000 };
        for _ in 0..20_000 {
            mining.block(RATE, |_, now| now);
        }
        mining
    }

    /// Milliseconds that the next block takes.
    fn solve_time(&mut self, rate: u64) -> u64 {
        let work = self.rule.next(&self.times).work().0.to::<u128>();
        (work * 1000 / u128::from(rate)) as u64
    }

    /// Mines a block; `stamp` says its time in seconds, by its height and the true time. Returns the milliseconds it took.
    fn block(&mut self, rate: u64, stamp: impl Fn(u64, u64) -> u64) -> u64 {
        let took = self.solve_time(rate);
        self.now += took;
        let (height, now) = (self.times.len() as u64, self.now / 1000);
        // A miner whose clock is behind what is allowed has to go on from there.
        let earliest = self.rule.earliest(&self.times);
        self.times.push(stamp(height, now).min(now + AHEAD).max(earliest));
        took
    }

    /// Blocks found in so many seconds of true time, as far as ten times what is due: a broken rule has no end.
    fn blocks_in(&mut self, seconds: u64, stamp: impl Fn(u64, u64) -> u64) -> u64 {
        let (end, before) = (self.now + 1000 * seconds, self.times.len() as u64);
        while self.now < end && self.times.len() as u64 - before < seconds {
            self.block(RATE, &stamp);
        }
        self.times.len() as u64 - before
    }
}

fn ours() -> Mining<Asert> {
    Mining::settled(Asert(testnet()))
}

fn bitcoins() -> Period {
    let parameters = testnet();
    let target = Target(U256::MAX / U256::from(RATE * parameters.spacing));
    Period { spacing: parameters.spacing, target, easiest: parameters.easiest_target.to_target().unwrap() }
}

/// A time by height and true time.
type Stamp = fn(u64, u64) -> u64;

/// "Time warp" (ArtForz 2011; BIP-54 closes it in Bitcoin): all blocks as early as may be but the last of each period, so
/// that a period, of which one interval is not measured, seems long.
fn time_warp(height: u64, now: u64) -> u64 {
    if (height + 1).is_multiple_of(PERIOD as u64) { now } else { 0 }
}

/// All games that need no pause. "Verge" is the attack of April 2018: many blocks far apart from their true time.
const GAMES: [(&str, Stamp); 6] = [
    ("honest", |_, now| now),
    ("as early as may be", |_, _| 0),
    ("as late as may be", |_, now| now + AHEAD),
    ("time warp", time_warp),
    ("zigzag of early and late", |height, now| if height.is_multiple_of(2) { 0 } else { now + AHEAD }),
    ("Verge: an hour early, then late", |height, now| if height % 20 < 15 { now - 3600 } else { now + AHEAD }),
];

#[test]
fn no_stamps_bring_more_blocks_than_they_are_late() {
    let honest = DAY / 10;
    for (name, stamp) in GAMES {
        let mut mining = ours();
        let blocks = mining.blocks_in(DAY, stamp);
        // What 30 s more give, and rounding to seconds.
        assert!(blocks <= honest + AHEAD / 10 + 2, "{name}: {blocks} blocks, {honest} are due");
    }
}

/// The stamp that was late must be paid back: over two days nobody is ahead by more.
#[test]
fn what_is_gained_once_is_not_gained_again() {
    for (name, stamp) in GAMES {
        let mut mining = ours();
        let blocks = (0..6).map(|_| mining.blocks_in(DAY / 3, stamp)).sum::<u64>();
        assert!(blocks <= 2 * DAY / 10 + AHEAD / 10 + 2, "{name}: {blocks} blocks in two days");
    }
}

/// The control: the same game, by the same code, breaks the rule that it was published against.
#[test]
fn the_time_warp_breaks_bitcoins_rule() {
    let mut mining = Mining::settled(bitcoins());
    let honest = mining.blocks_in(7 * DAY, |_, now| now);
    let warped = mining.blocks_in(7 * DAY, time_warp);
    assert!(honest.abs_diff(7 * DAY / 10) < 100, "{honest}");
    assert!(warped > 2 * honest, "{warped} blocks against {honest}");
}

/// Leaving and coming back: five block spacings of a fortieth of the hash rate, so that difficulty falls, then all of it
/// for as long as blocks come faster than due, again and again for four days (the oscillation of Bitcoin Cash in 2017).
fn hop<R: Rule>(mining: &mut Mining<R>) -> u64 {
    let (end, before) = (mining.now + 4000 * DAY, mining.times.len());
    while mining.now < end {
        for _ in 0..12 {
            mining.block(RATE / 40, |_, now| now);
        }
        for _ in 0..2000 {
            if mining.now >= end || mining.solve_time(RATE) > 8_000 {
                break;
            }
            mining.block(RATE, |_, now| now);
        }
    }
    (mining.times.len() - before) as u64
}

#[test]
fn hopping_brings_no_more_blocks_than_are_due() {
    let due = 4 * DAY / 10;
    let found = hop(&mut ours());
    assert!(found <= due + 2, "{found} blocks, {due} are due");
    let found = hop(&mut Mining::settled(Emergency(bitcoins())));
    assert!(found > due * 13 / 10, "the control: {found} blocks, {due} are due");
}

/// Seconds between blocks at so many seconds after a jump of the hash rate, and blocks until then, per line.
fn jump(rate: u64, minutes: &[u64]) -> Vec<(u64, u64, u64)> {
    let mut mining = ours();
    let (start, before) = (mining.now, mining.times.len() as u64);
    let mut lines = Vec::new();
    for &at in minutes {
        while mining.now < start + at * 60_000 {
            mining.block(rate, |_, now| now);
        }
        lines.push((at, mining.solve_time(rate), mining.times.len() as u64 - before));
    }
    lines
}

#[test]
fn the_table_of_jumps() {
    let minutes = [0, 10, 30, 60, 120, 240, 480, 960];
    let mut table = String::from(
        "| minutes after the jump | 10 times more: spacing, s | blocks so far (due) | 10 times less: spacing, s | \
         blocks so far (due) |\n| --- | --- | --- | --- | --- |\n",
    );
    let (up, down) = (jump(RATE * 10, &minutes), jump(RATE / 10, &minutes));
    for ((at, up, more), (_, down, less)) in up.into_iter().zip(down) {
        let due = at * 6;
        let seconds = |millis: u64| format!("{}.{:02}", millis / 1000, millis % 1000 / 10);
        table += &format!("| {at} | {} | {more} ({due}) | {} | {less} ({due}) |\n", seconds(up), seconds(down));
    }
    let page = include_str!("../../docs/difficulty.md");
    assert!(page.contains(&table), "docs/difficulty.md does not have this table:\n{table}");
}

#[test]
fn the_simulation_starts_from_rest() {
    let mut mining = ours();
    let spacing = mining.solve_time(RATE);
    assert!(spacing.abs_diff(10_000) < 50, "{spacing} ms");
    assert_eq!(CompactTarget(0x1e00_ffff), testnet().easiest_target);
}
