//! The events of a run: what happens when, and to whom. What a node does with blocks, messages, connections and tasks is in the
//! modules below.

mod blocks;
mod connections;
mod messages;
mod outcome;
mod tasks;

use std::sync::Arc;

use ocelli_consensus::{CompactTarget, Network};
use ocelli_protocol::assembly;
use ocelli_protocol::sync::{Input, Timer};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::block::{Block, Blocks};
use crate::config::{SECOND, SimulationConfig};
use crate::line::{Line, Message};
use crate::node::Node;
use crate::queue::Queue;
use crate::report::Report;
use crate::world;
use connections::BOOTSTRAP;
use tasks::TaskTimes;

/// Before the first block: connections are made.
const WARM_UP: u64 = 30 * SECOND;

#[derive(Debug)]
enum Event {
    /// A chunk has gone out.
    Sent {
        node: usize,
        life: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        connection: u64,
        message: Message,
    },
    /// An announcement has been looked through.
    Checked {
        node: usize,
        life: u64,
        from: usize,
        block: Arc<Block>,
    },
    Validated {
        node: usize,
        life: u64,
        block: Arc<Block>,
    },
    Timer {
        node: usize,
        life: u64,
        timer: Timer<usize>,
        at: u64,
    },
    /// A node's assembly wants to be woken.
    Assemble {
        node: usize,
        life: u64,
        at: u64,
    },
    Upkeep {
        node: usize,
    },
    /// A task is handed in.
    Submit,
    /// A node's relay wants to be woken.
    Wake {
        node: usize,
        life: u64,
        at: u64,
    },
    /// Somebody finds a block.
    Found,
    Leave {
        node: usize,
    },
    Return {
        node: usize,
    },
    Split,
    Heal,
    End,
}

/// Simulates what a configuration says.
pub fn run(config: &SimulationConfig) -> Report {
    let mut simulation = Simulation::new(config.clone());
    simulation.run();
    simulation.report()
}

struct Simulation {
    config: SimulationConfig,
    network: Network,
    random: ChaCha8Rng,
    now: u64,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    /// Of each node.
    lines: Vec<Line>,
    connections: u64,
    blocks: Blocks,
    tasks: TaskTimes,
    is_split: bool,
    healed_at: Option<u64>,
    is_over: bool,
    counts: Counts,
}

/// Over the whole run.
#[derive(Debug, Default)]
struct Counts {
    received_bytes: u64,
    deepest_reorganisation: u64,
    wrong_bans: usize,
}

impl Simulation {
    fn new(config: SimulationConfig) -> Self {
        let mut parameters = Network::builtin("testnet").expect("built in").parameters;
        parameters.spacing = config.spacing;
        // One hash in two or so is a block, and the target never moves: how often blocks come is decided here.
        parameters.easiest_target = CompactTarget(0x207f_ffff);
        parameters.half_life = 1 << 40;
        let network = Network::new(parameters, Vec::new());
        let tasks = TaskTimes::new(&network, &config);
        let mut random = ChaCha8Rng::seed_from_u64(config.seed);
        let first_dishonest = config.nodes - config.attack.map_or(0, |attack| attack.nodes);
        let nodes = (0..config.nodes).map(|at| {
            let behaviour = config.attack.filter(|_| at >= first_dishonest).map(|attack| attack.behaviour);
            Node::new(&network, behaviour, &mut random)
        });
        let nodes: Vec<_> = nodes.collect();
        let bandwidth = |node: &Node| world::bandwidth(node.region, config.lines.bandwidth_percent, &mut random);
        let lines = nodes.iter().map(bandwidth).map(Line::new).collect();
        Self {
            config,
            network,
            random,
            now: 0,
            queue: Queue::new(),
            nodes,
            lines,
            connections: 0,
            blocks: Blocks::default(),
            tasks,
            is_split: false,
            healed_at: None,
            is_over: false,
            counts: Counts::default(),
        }
    }

    fn run(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.random.random_range(0..SECOND);
            self.queue.push(at, Event::Upkeep { node });
            if self.config.churn.is_some() && node >= self.config.miners.max(BOOTSTRAP) {
                self.schedule_leaving(node);
            }
        }
        if let Some(partition) = self.config.partition {
            for node in &mut self.nodes {
                node.is_on_small_side = self.random.random_range(0..100) < partition.percent;
            }
            self.queue.push(partition.begin * SECOND, Event::Split);
            self.queue.push((partition.begin + partition.duration) * SECOND, Event::Heal);
        }
        self.queue.push(WARM_UP, Event::Found);
        if self.config.load.per_second > 0 {
            self.queue.push(WARM_UP, Event::Submit);
        }
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            if matches!(event, Event::End) {
                return;
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let lives = |nodes: &[Node], node: usize, life: u64| nodes[node].is_online && nodes[node].life == life;
        match event {
            Event::Sent { node, life } if lives(&self.nodes, node, life) => self.on_sent(node),
            Event::Checked { node, life, from, block } if lives(&self.nodes, node, life) => {
                self.on_checked(node, from, &block);
            }
            Event::Validated { node, life, block } if lives(&self.nodes, node, life) => self.on_validated(node, &block),
            Event::Timer { node, life, timer, at } if lives(&self.nodes, node, life) => {
                // Moved timers leave their old event behind.
                if self.nodes[node].session.timers.get(&timer) == Some(&at) {
                    self.nodes[node].session.timers.remove(&timer);
                    if let Timer::Request(id) = timer {
                        self.nodes[node].session.asked.remove(&id);
                    }
                    self.drive(node, Input::TimerFired(timer));
                }
            }
            Event::Assemble { node, life, at } if lives(&self.nodes, node, life) => {
                if self.nodes[node].session.assembly_wake_at == Some(at) {
                    self.nodes[node].session.assembly_wake_at = None;
                    self.drive_assembly(node, assembly::Input::Woken);
                }
            }
            Event::Wake { node, life, at } if lives(&self.nodes, node, life) => self.on_wake(node, at),
            Event::Sent { .. }
            | Event::Checked { .. }
            | Event::Validated { .. }
            | Event::Timer { .. }
            | Event::Assemble { .. }
            | Event::Wake { .. } => {}
            Event::Submit => self.on_submit(),
            Event::Deliver { from, to, connection, message } => {
                if self.nodes[to].session.peers.get(&from).is_some_and(|peer| peer.connection == connection) {
                    self.on_message(from, to, message);
                }
            }
            Event::Upkeep { node } => self.on_upkeep(node),
            Event::Found => self.on_found(),
            Event::Leave { node } => self.on_leave(node),
            Event::Return { node } => {
                self.nodes[node].is_online = true;
                self.dial_some(node);
                self.schedule_leaving(node);
            }
            Event::Split => {
                self.is_split = true;
                self.cut();
            }
            Event::Heal => {
                self.is_split = false;
                self.healed_at = Some(self.now);
            }
            Event::End => {}
        }
    }
}
