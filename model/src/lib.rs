//! What Ocelli nodes see: exact-integer convolutional networks.
//!
//! A [`Model`] is a file of small integers and a [`Graph`] that says how they combine. Its meaning is the short program in
//! [`mod@reference`]; every [`Backend`] returns the same logits, bit for bit, because a model is loaded only once [`proof`] has
//! shown that no partial sum can leave the integers that an f32 holds exactly. The format and the semantics are written
//! down in `docs/inference.md`, from which they can be implemented again.

pub mod attachment;
pub mod backend;
mod cost;
pub mod dataset;
pub mod evaluate;
pub mod file;
pub mod golden;
pub mod graph;
mod id;
pub mod json;
pub mod model;
pub mod onnx;
pub mod picture;
pub mod plots;
pub mod proof;
pub mod quantize;
pub mod reference;
pub mod train;
pub mod zoo;

pub use attachment::Attachment;
pub use backend::{Backend, BackendError, CandleBackend, DeviceChoice, Kernel, KernelBackend, ReferenceBackend};
pub use file::{Display, FileError, ModelFile, Parameters};
pub use golden::GoldenError;
pub use graph::{Graph, GraphError, Layer, Operation, Shape};
pub use id::{ModelId, ParseModelIdError};
pub use json::JsonError;
pub use model::{Model, ModelError};
pub use onnx::OnnxError;
pub use picture::PictureError;
pub use proof::ProofError;
