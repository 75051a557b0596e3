//! The Ocelli node: the only place with disk, sockets, clock, threads and a terminal.

pub mod chain;
pub mod client;
pub mod clock;
pub mod commands;
pub mod inference;
mod log_limit;
mod meter;
pub mod miner;
pub mod network;
pub mod node;
pub mod replay;
pub mod store;
pub mod validation;
pub mod wallet;
