//! The binary as a person meets it: with nothing in its environment, in a home folder of its own.

mod environment;
mod files;
mod lies;
mod mistakes;
mod model;
mod numbers;
mod peers;
mod pictures;
#[cfg(unix)]
mod programs;
mod published;
mod real_node;
mod scripted_chain;
mod scripted_node;
mod stored;
#[cfg(unix)]
mod trees;
mod wallets;
mod with_a_node;
mod without_a_node;
