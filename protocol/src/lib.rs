//! What Ocelli nodes say: wire messages, and the assembly, mempool, relay and sync machines. Pure: no sockets, clock or
//! disk; time and randomness arrive as values.

pub mod assembly;
pub mod files;
pub mod ledger;
pub mod limits;
pub mod mempool;
pub mod message;
mod offence;
mod origin;
pub mod relay;
pub mod sync;
pub mod topic;
mod wire;

pub use offence::Offence;
