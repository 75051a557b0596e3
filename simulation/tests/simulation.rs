//! Small runs: the same seed gives the same, and what must hold does.

use ocelli_simulation::{Attack, Behaviour, Churn, Load, Partition, Report, SimulationConfig, Task, run};

fn small() -> SimulationConfig {
    SimulationConfig { nodes: 40, miners: 8, blocks: 40, load: blocks_of(100), ..SimulationConfig::default() }
}

fn blocks_of(per_block: u64) -> Load {
    Load { per_block, ..Load::full_of(Task::SMALL) }
}

/// One tip after quiet time, nobody honest banned, and every block accounted for.
fn check(report: &Report, config: &SimulationConfig) {
    assert_eq!(report.tips, 1, "{report:?}");
    assert_eq!(report.wrong_bans, 0, "{report:?}");
    assert_eq!(report.blocks.honest + report.blocks.dishonest, config.blocks);
    assert_eq!(report.honest_online, config.nodes - config.attack.map_or(0, |attack| attack.nodes));
    let waits = report.waits.unwrap();
    assert!(waits.announced <= waits.complete && waits.complete <= waits.validated, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same() {
    let config = SimulationConfig { churn: Some(Churn { up: 120, down: 30 }), ..small() };
    let [one, same, other] = [1, 1, 2].map(|seed| run(&SimulationConfig { seed, ..config.clone() }));
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn blocks_reach_everybody_and_large_ones_later() {
    let report = run(&small());
    check(&report, &small());
    let times = report.validated_ms.unwrap();
    assert!(times.p50 > 50 && times.p99 < 10_000, "{times:?}");
    let large = SimulationConfig { load: blocks_of(1_600), ..small() };
    let report = run(&large);
    check(&report, &large);
    assert!(report.validated_ms.unwrap().p50 > 2 * times.p50, "{report:?} after {times:?}");
}

#[test]
fn a_partition_heals() {
    let config = SimulationConfig {
        partition: Some(Partition { begin: 60, duration: 120, percent: 40 }),
        exchange_seconds: Some(60),
        ..small()
    };
    let report = run(&config);
    check(&report, &config);
    assert!(report.deepest_reorganisation >= 2, "{report:?}");
    let heal = report.heal_ms.unwrap();
    assert!(heal.p99 < 120_000, "{report:?}");
}

#[test]
fn nodes_that_come_and_go_catch_up() {
    let config = SimulationConfig { churn: Some(Churn { up: 200, down: 40 }), blocks: 60, ..small() };
    let report = run(&config);
    assert_eq!((report.tips, report.wrong_bans), (1, 0), "{report:?}");
    assert!(report.honest_online >= 25, "{report:?}");
}

#[test]
fn liars_keep_nobody_from_the_chain() {
    for (behaviour, hash_percent) in [(Behaviour::Withholds, 0), (Behaviour::Forges, 20)] {
        let attack = Some(Attack { nodes: 12, behaviour, hash_percent });
        let config = SimulationConfig { attack, ..small() };
        let report = run(&config);
        check(&report, &config);
        assert_eq!(report.blocks.dishonest_on_chain, 0, "{behaviour:?}: {report:?}");
    }
}

#[test]
fn a_strong_selfish_miner_gains_and_a_weak_one_does_not() {
    let selfish = |hash_percent| {
        let config = SimulationConfig {
            attack: Some(Attack { nodes: 1, behaviour: Behaviour::MinesSelfishly, hash_percent }),
            // A lead of its own goes up and down for a hundred blocks: fewer show chance.
            blocks: 2_400,
            nodes: 20,
            load: blocks_of(10),
            exchange_seconds: None,
            ..small()
        };
        let report = run(&config);
        check(&report, &config);
        report.blocks.dishonest_percent()
    };
    let (weak, strong) = (selfish(10), selfish(45));
    assert!(weak < 10.0 && strong > 50.0, "{weak} % and {strong} % of the chain");
}

#[test]
fn every_task_reaches_every_node_once() {
    let load = Load { per_second: 4, ..blocks_of(431) };
    let config = SimulationConfig { nodes: 20, blocks: 15, load, ..small() };
    let report = run(&config);
    check(&report, &config);
    let tasks = report.tasks.unwrap();
    assert!(tasks.submitted > 100, "{tasks:?}");
    assert_eq!((tasks.confirmed, tasks.repeated), (tasks.submitted, 0), "{tasks:?}");
    // A picture of 3,072 bytes once; so few tasks share hardly an announcement.
    assert!((3_072..2 * 3_072).contains(&tasks.relay_bytes), "{tasks:?}");
}
