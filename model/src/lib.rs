//! What Ocelli nodes see: exact-integer convolutional networks.
//!
//! A [`Model`] is a file of small integers and scales, and a [`Graph`] that says how they combine. Its meaning is the short
//! program in [`mod@reference`]; every [`Backend`] returns the same logits, bit for bit, since a model is loaded only once
//! [`proof`] has shown that no sum can leave 31 bits. The format and the semantics are written down in `docs/inference.md`,
//! from which they can be implemented again.

pub mod attachment;
pub mod backend;
pub mod display;
pub mod file;
pub mod golden;
pub mod graph;
mod id;
pub mod json;
pub mod model;
pub mod picture;
pub mod proof;
pub mod reference;
pub mod sample;
pub mod zoo;

pub use attachment::Attachment;
pub use backend::{Backend, BackendError, CandleBackend, DeviceChoice, Kernel, KernelBackend, ReferenceBackend};
pub use display::{Display, DisplayError};
pub use file::{FileError, ModelFile, Parameters};
pub use golden::GoldenError;
pub use graph::{Activation, Finish, Graph, GraphError, Input, Layer, Operation, Shape, Window};
pub use id::{ModelId, ParseModelIdError};
pub use json::JsonError;
pub use model::{Model, ModelError};
pub use picture::PictureError;
pub use proof::{Bounds, Proof, ProofError};
