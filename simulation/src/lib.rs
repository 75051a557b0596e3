//! Hundreds of nodes in one process on virtual time: how blocks travel, and what follows for a network's parameters.
//!
//! Real are the machines that a node runs: headers with proof of work (at a target that one or two hashes meet), the
//! header tree with its rules and fork choice, the sync machine with its timers, and, where tasks are simulated too, relay and
//! mempool. Not real is what is not measured:
//! pictures, signatures and inference are times and bytes ([`cost`]), and so are the lines between nodes ([`world`]).
//! Blocks are found by a Poisson process, as with any proof of work.
//!
//! Everything comes from one seed: the same configuration gives the same report.

mod block;
pub mod config;
pub mod cost;
pub mod experiment;
mod line;
mod miner;
mod node;
pub mod plots;
mod queue;
pub mod report;
mod simulation;
mod views;
pub mod world;

pub use config::{Attack, Behaviour, Churn, Load, Partition, SimulationConfig, Task};
pub use report::Report;
pub use simulation::run;
