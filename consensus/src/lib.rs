//! What Ocelli nodes agree on: blocks, transactions, the rules for both and the state that they change.
//!
//! Pure: no disk, sockets, clock, threads, async or floats. What a rule needs from outside arrives as an argument:
//! stored state through [`object::StateReader`], models through [`rules::Models`], this node's own answers through
//! [`rules::check_answer`].
//! Every format here is frozen and described in `docs/protocol.md`.

pub mod address;
pub mod amount;
pub mod block;
pub mod checked;
pub mod codec;
pub mod difficulty;
pub mod fork_choice;
pub mod genesis;
pub mod hash;
pub mod header;
pub mod history;
pub mod merkle;
pub mod network;
pub mod object;
pub mod parameters;
pub mod rules;
pub mod schedule;
pub mod signature;
pub mod state;
pub mod target;
pub mod transaction;
pub mod transition;

pub use address::Address;
pub use amount::Amount;
pub use block::{Answer, Block, Body, Classes};
pub use checked::CheckedTransaction;
pub use hash::{AttachmentHash, BlockHash, LogitsDigest, ModelId, PartsHash, Root, TxId, UploadHash, WtxId};
pub use header::Header;
pub use network::Network;
pub use object::{Account, ModelFacts, ModelRecord, Object, ObjectId, UploadRecord};
pub use parameters::Parameters;
pub use rules::{RuleError, TransactionError};
pub use schedule::Schedule;
pub use target::{CompactTarget, Target, U256, Work};
pub use transaction::{Action, Form, Task, Transaction, Unsigned};
