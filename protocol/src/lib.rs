//! What Ocelli nodes say: wire messages, and the sync and mempool machines. Pure: no sockets, clock or disk; time and
//! randomness arrive as values.

pub mod mempool;
pub mod message;
pub mod sync;
pub mod topic;
mod wire;
