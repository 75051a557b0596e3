//! The runs that `docs/scaling.md` is written from.

use serde::{Deserialize, Serialize};

use crate::config::{Attack, Behaviour, Churn, Lines, Load, Partition, SimulationConfig, Task, WEIGHT_LIMIT};
use crate::cost::announcement;
use crate::report::Report;
use crate::run;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A few small runs, to see that it works.
    Quick,
    /// What the document shows.
    Full,
}

/// One run with what it was of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub experiment: String,
    /// Which of its rows, for people.
    pub name: String,
    pub nodes: usize,
    /// Seconds between blocks.
    pub spacing: u64,
    /// Tasks in a block.
    pub tasks_per_block: u64,
    /// Bytes of a block's announcement.
    pub announcement_bytes: u64,
    /// Percent of the hash rate that is not honest.
    pub dishonest_hash_percent: u64,
    /// What it came to.
    pub report: Report,
}

/// The names of all experiments.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = plan(Extent::Quick, 0).into_iter().map(|(experiment, ..)| experiment).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Runs the rows that are asked for by experiment and name, one after the other; `told` hears of each.
pub fn all(
    extent: Extent,
    seed: u64,
    is_asked_for: impl Fn(&str, &str) -> bool,
    mut told: impl FnMut(&Row),
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (experiment, name, config) in plan(extent, seed) {
        if !is_asked_for(experiment, &name) {
            continue;
        }
        let row = Row {
            experiment: experiment.into(),
            name,
            nodes: config.nodes,
            spacing: config.spacing,
            tasks_per_block: config.load.per_block,
            announcement_bytes: announcement(config.load.per_block),
            dishonest_hash_percent: config.attack.map_or(0, |attack| attack.hash_percent),
            report: run(&config),
        };
        told(&row);
        rows.push(row);
    }
    rows
}

/// Experiments that may end with several tips, which is a result: blocks are too large for slow lines, or no connection ever
/// crosses where a partition was.
pub const MAY_END_APART: [&str; 4] = ["size and spacing", "slow lines", "hidden tasks", "partition"];
/// Weight limits that are compared.
pub const WEIGHTS: [u64; 4] = [1_100_000, 2_100_000, WEIGHT_LIMIT, 8_400_000];
/// Thousandths of tasks that nodes lack.
pub const MISSING: [u64; 3] = [0, 4, 50];
/// Milliseconds since a miner has had a task before which it leaves it out.
pub const AGES: [u64; 4] = [0, 1_000, 2_000, 4_000];
/// Seconds.
pub const SPACINGS: [u64; 3] = [10, 15, 20];
/// Percent of the hash rate that a selfish miner has.
pub const SHARES: [u64; 6] = [10, 20, 25, 30, 35, 40];

fn plan(extent: Extent, seed: u64) -> Vec<(&'static str, String, SimulationConfig)> {
    let full = extent == Extent::Full;
    let base = SimulationConfig {
        seed,
        nodes: if full { 150 } else { 40 },
        blocks: if full { 120 } else { 40 },
        ..SimulationConfig::default()
    };
    // What the rest is run with: the testnet's parameters.
    let usual = base.clone();
    let mut plan = Vec::new();
    let mut add = |experiment, name: String, config: SimulationConfig| plan.push((experiment, name, config));
    let (weights, spacings, shares) = if full {
        (&WEIGHTS[..], &SPACINGS[..], &SHARES[..])
    } else {
        (&WEIGHTS[1..3], &SPACINGS[1..2], &SHARES[3..4])
    };
    for &weight in weights {
        for &spacing in spacings {
            let load = Load { per_block: Task::SMALL.in_weight(weight), ..base.load };
            let config = SimulationConfig { spacing, load, ..base.clone() };
            add("size and spacing", format!("{weight}, {spacing} s"), config);
        }
    }
    let sizes = if full { &[100, 300, 1_000][..] } else { &[20, 80] };
    for &nodes in sizes {
        add(
            "number of nodes",
            format!("{nodes} nodes"),
            SimulationConfig { nodes, blocks: base.blocks / 2, ..usual.clone() },
        );
    }
    let lines = Lines { latency_percent: 200, ..usual.lines };
    add("latency", "twice the latencies".into(), SimulationConfig { lines, ..usual.clone() });
    let kinds = [("3 kB", Task::SMALL), ("25 kB", Task::LARGE)];
    for (kind, task) in kinds {
        let full_load = Load::full_of(task);
        let lacking = |missing_permille, lines, load| {
            let name = format!("{kind}, {:.1} % missing", missing_permille as f64 / 10.0);
            (name, SimulationConfig { load: Load { missing_permille, ..load }, lines, ..base.clone() })
        };
        for missing_permille in MISSING {
            let (name, config) = lacking(missing_permille, base.lines, full_load);
            add("missing tasks", name, config);
        }
        for (bandwidth_percent, missing_permille) in [(50, 4), (25, 4), (25, 50)] {
            let (name, config) = lacking(missing_permille, Lines { bandwidth_percent, ..base.lines }, full_load);
            add("slow lines", format!("{name}, {bandwidth_percent} % of the bandwidth"), config);
        }
        for (what, lines, load) in [
            ("lines 100 times as wide", Lines { bandwidth_percent: 10_000, ..base.lines }, full_load),
            ("a tenth of the latencies", Lines { latency_percent: 10, ..base.lines }, full_load),
            ("nothing to run", base.lines, Load { task: task.run_before(), ..full_load }),
            ("half the weight", base.lines, Load { per_block: full_load.per_block / 2, ..full_load }),
            ("a quarter of the weight", base.lines, Load { per_block: full_load.per_block / 4, ..full_load }),
        ] {
            for missing_permille in &MISSING[1..] {
                let (name, config) = lacking(*missing_permille, lines, load);
                add("what limits", format!("{name}, {what}"), config);
            }
        }
        let hides = Attack { nodes: 1, behaviour: Behaviour::HidesTasks, hash_percent: 30 };
        for (who, attack) in [("hide theirs", hides), ("are honest", Attack { behaviour: Behaviour::Mines, ..hides })] {
            let name = format!("{kind}, 30 % of the hash rate {who}");
            let load = Load { missing_permille: 0, ..full_load };
            let (nodes, blocks) = (base.nodes.min(40), 4 * base.blocks);
            add("hidden tasks", name, SimulationConfig { attack: Some(attack), load, nodes, blocks, ..base.clone() });
        }
    }
    let churn = Some(Churn { up: 1_800, down: 300 });
    add("churn", "half an hour up, five minutes away".into(), SimulationConfig { churn, ..usual.clone() });
    let partition = Some(Partition { begin: 300, duration: if full { 900 } else { 120 }, percent: 30 });
    let blocks = if full { 200 } else { 60 };
    for (name, exchange_seconds) in
        [("a peer exchanged every 2 minutes", Some(120)), ("every 10 minutes", Some(600)), ("never", None)]
    {
        add("partition", name.into(), SimulationConfig { partition, exchange_seconds, blocks, ..usual.clone() });
    }
    let liars = Attack { nodes: base.nodes / 5, behaviour: Behaviour::Withholds, hash_percent: 0 };
    let forgers = Attack { behaviour: Behaviour::Forges, hash_percent: 10, ..liars };
    for (name, attack) in [
        ("a fifth withholds and claims all work", liars),
        ("a fifth forges answers, with 10 % of the hash rate", forgers),
    ] {
        add("liars", name.into(), SimulationConfig { attack: Some(attack), ..usual.clone() });
    }
    for (kind, task) in kinds {
        let load = Load::full_of(task);
        // As many as fit: blocks after a long pause are full, and those after a short one are not.
        let per_second = load.per_block / base.spacing / if full { 1 } else { 10 };
        let (nodes, blocks) = if full { (50, 20) } else { (30, 10) };
        let ages = if full { &AGES[..] } else { &AGES[2..3] };
        let steady = ages.iter().map(|ripe_millis| (*ripe_millis, 1, String::new()));
        // A block's worth at once.
        let burst = if full { load.per_block } else { 10 };
        let sudden = AGES[2..].iter().map(|ripe_millis| (*ripe_millis, burst, format!(", {burst} at once")));
        for (ripe_millis, burst, how) in steady.chain(sudden) {
            let name = format!("{kind}, in blocks after {:.1} s{how}", ripe_millis as f64 / 1e3);
            let load = Load { per_second, burst, ripe_millis, ..load };
            add("tasks", name, SimulationConfig { load, nodes, blocks, ..usual.clone() });
        }
    }
    for &hash_percent in shares {
        let selfish = SimulationConfig {
            attack: Some(Attack { nodes: 1, behaviour: Behaviour::MinesSelfishly, hash_percent }),
            nodes: 40,
            blocks: if full { 1_200 } else { 100 },
            ..usual.clone()
        };
        add("selfish mining", format!("{hash_percent} % of the hash rate"), selfish);
    }
    plan
}
