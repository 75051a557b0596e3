//! The Ocelli node: the only place with disk, sockets, clock, threads and a terminal.

pub mod chain;
pub mod client;
pub mod commands;
pub mod inference;
mod log_limit;
mod meter;
pub mod miner;
pub mod network;
pub mod node;
mod output_file;
pub mod replay;
mod signals;
pub mod store;
pub mod validation;
pub mod wallet;
