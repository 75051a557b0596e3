//! The Ocelli node: the only place with disk, sockets, clock, threads and a terminal.

pub mod api;
mod block_name;
pub mod chain;
pub mod client;
pub mod clock;
pub mod commands;
mod core;
mod dropped;
mod error;
pub mod fee;
#[cfg(test)]
mod fixture;
mod full_message;
mod inbox;
pub mod inference;
mod json;
mod keeper;
mod ledger;
mod log_limit;
pub mod miner;
pub mod network;
pub mod node;
mod offence;
mod pool;
mod rate;
pub mod replay;
mod reply;
mod requests;
mod sent;
pub mod store;
mod task;
mod traffic;
pub mod turn;
pub mod validation;
mod view;
pub mod wallet;

pub use full_message::full_message;
