//! What several fuzz targets share.

pub mod input;
#[cfg(feature = "model")]
mod models;
#[cfg(feature = "model")]
mod recipe;

#[cfg(feature = "model")]
pub use models::run_everywhere;
#[cfg(feature = "model")]
pub use recipe::cook;

/// A chain in memory, as the tests of `consensus` use it.
#[path = "../../consensus/tests/chain/mod.rs"]
pub mod chain;

/// A mempool and a chain of accounts in memory, as the property test of `protocol` uses them.
#[path = "../../protocol/tests/pool_and_chain/mod.rs"]
pub mod pool_and_chain;
