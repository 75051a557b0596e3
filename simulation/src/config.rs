//! What is simulated.

/// Seconds in microseconds, the unit of virtual time.
pub const SECOND: u64 = 1_000_000;

/// One run.
#[derive(Debug, Clone)]
pub struct SimulationConfig {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Nodes, at least two.
    pub nodes: usize,
    /// Honest nodes that mine, equally fast; the first ones.
    pub miners: usize,
    /// Mean seconds between blocks.
    pub spacing: u64,
    /// Blocks to find in all.
    pub blocks: usize,
    pub load: Load,
    pub lines: Lines,
    /// Nodes that are not honest.
    pub attack: Option<Attack>,
    /// Nodes that leave and come back.
    pub churn: Option<Churn>,
    /// Seconds after which a node exchanges one of the peers that it has dialled for another, drawn from all; `None` keeps
    /// those that stay.
    pub exchange_seconds: Option<u64>,
    /// A time in which no message crosses between two sides.
    pub partition: Option<Partition>,
}

/// What blocks hold.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What tasks are like.
    pub task: Task,
    /// Tasks in every block, or the most where tasks are simulated too.
    pub per_block: u64,
    /// Tasks handed in a second, which are relayed, kept in mempools and put into blocks; with 0, blocks have as many as they
    /// may, and nodes have all but the missing ones.
    pub per_second: u64,
    /// As many of these are handed in at the same moment, at another node each.
    pub burst: u64,
    /// Milliseconds since a task came into a miner's mempool before which it takes none, where tasks are simulated too.
    pub ripe_millis: u64,
    /// Of a block's tasks, the thousandths that a node does not have yet when the block comes, where they are not.
    pub missing_permille: u64,
}

/// Factors on what [`crate::world`] says.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    /// On all latencies, in percent.
    pub latency_percent: u64,
    /// On what all lines carry, in percent.
    pub bandwidth_percent: u64,
}

/// Nodes that are not honest, the last ones.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// How many.
    pub nodes: usize,
    pub behaviour: Behaviour,
    /// Percent of all hash rate that a selfish or hiding miner, or the forgers together, have; the honest miners have the rest.
    pub hash_percent: u64,
}

/// What a dishonest node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Passes no block on, claims the most work possible, and answers no other question.
    Withholds,
    /// Mines blocks with wrong answers on the best tip: proof of work and structure are right, so they are passed on.
    Forges,
    /// As honest nodes do: what an attack is compared with.
    Mines,
    /// One miner that fills its blocks with tasks of its own, which it has shown to nobody before.
    HidesTasks,
    /// One miner that keeps its blocks back and publishes them when that wins most (Eyal and Sirer, "Majority is not
    /// Enough", 2014, algorithm 1).
    MinesSelfishly,
}

/// Nodes that leave and come back with what they had stored. Miners stay.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// Mean seconds that a node is there.
    pub up: u64,
    /// Mean seconds that it is away.
    pub down: u64,
}

/// No message crosses between two sides.
#[derive(Debug, Clone, Copy)]
pub struct Partition {
    /// Seconds after the start.
    pub begin: u64,
    /// Seconds that it lasts.
    pub duration: u64,
    /// Percent of the nodes on the smaller side.
    pub percent: u64,
}

impl Default for SimulationConfig {
    /// The testnet's parameters with full blocks, and honest nodes only.
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 200,
            miners: 20,
            spacing: 10,
            blocks: 200,
            load: Load::full_of(Task::SMALL),
            lines: Lines { latency_percent: 100, bandwidth_percent: 100 },
            attack: None,
            churn: None,
            exchange_seconds: Some(120),
            partition: None,
        }
    }
}

impl Load {
    /// Blocks of the testnet that are full of such tasks, of which a node lacks 0.4 %.
    pub fn full_of(task: Task) -> Self {
        Self {
            task,
            per_block: task.in_weight(WEIGHT_LIMIT),
            per_second: 0,
            burst: 1,
            ripe_millis: 0,
            missing_permille: 4,
        }
    }
}

/// The testnet's.
pub const WEIGHT_LIMIT: u64 = 4_200_000;

/// What a task is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Bytes.
    pub transaction: u64,
    /// Bytes.
    pub attachment: u64,
    pub weight: u64,
    /// Microseconds of a block's validation that it takes where it has been here, and been run, before.
    pub known_micros: u64,
    /// The same where nothing of it is known.
    pub unknown_micros: u64,
}

impl Task {
    /// Pixels of 32x32: a full block takes 59 ms on two cores, 42 of them its signatures and the model's run (`docs/benchmarks.md`).
    pub const SMALL: Self =
        Self { transaction: 204, attachment: 3_072, weight: 256 + 204 + 3_072, known_micros: 15, unknown_micros: 50 };
    /// A JPEG of 25 kB and 224x224 for a network of MobileNetV2's size: 120 fill a block, and as a block full of computing takes a
    /// second on two cores, each takes 8.3 ms.
    pub const LARGE: Self =
        Self { transaction: 208, attachment: 25_600, weight: 35_000, known_micros: 50, unknown_micros: 8_400 };

    /// As if all of them had been run before a block comes.
    pub fn run_before(self) -> Self {
        Self { unknown_micros: self.known_micros, ..self }
    }

    /// How many of them a block of this weight holds.
    pub fn in_weight(&self, weight: u64) -> u64 {
        weight / self.weight
    }
}
