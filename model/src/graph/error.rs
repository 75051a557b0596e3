//! Why a graph is refused.

use super::layer::Shape;
use super::limits::{
    INPUT, MAX_CLASSES, MAX_COST, MAX_DIMENSION, MAX_LAYERS, MAX_MOVED, MAX_NAME, MAX_PACKED_WEIGHTS, VERSION,
};
use crate::json::JsonError;

/// A graph that is not allowed. `layer` is a layer's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The text is not the expected JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The text is no TOML.
    #[error("graph: no valid TOML at line {line}: {message}")]
    Toml {
        /// The line of the fault, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The graph is of a version this program does not know.
    #[error("graph version {found} is not known, only {VERSION} is")]
    Version {
        /// The version found.
        found: u64,
    },
    /// The graph has no layers.
    #[error("the graph has no layers")]
    NoLayers,
    /// The graph has too many layers.
    #[error("the graph has {found} layers, more than {MAX_LAYERS}")]
    TooManyLayers {
        /// The number found.
        found: usize,
    },
    /// The last layer has too many channels.
    #[error("the graph has {found} classes, more than {MAX_CLASSES}")]
    Classes {
        /// The number found.
        found: usize,
    },
    /// A layer's name is empty, too long, of other characters than `a-z`, `0-9` and `_`, or `input`.
    #[error("layer {index}: the name {name:?} is not 1 to {MAX_NAME} of a-z, 0-9 and _, or is {INPUT:?}")]
    Name {
        /// The place of the layer, from 0.
        index: usize,
        name: String,
    },
    /// Two layers have one name.
    #[error("two layers are named {name:?}")]
    DuplicateName { name: String },
    /// A layer is of an unknown kind.
    #[error("layer {layer:?}: unknown kind {kind:?}")]
    Kind {
        layer: String,
        /// The kind found.
        kind: String,
    },
    /// A number is too small or too large.
    #[error("{at}: {key} is {found}, not within {low}..={high}")]
    Range {
        /// `input`, or `layer` and the layer's name.
        at: String,
        /// Which number.
        key: &'static str,
        /// The least that it may be.
        low: usize,
        /// The most that it may be.
        high: usize,
        found: u64,
    },
    /// The input has not one zero point for each channel.
    #[error("input: {found} zero points for {expected} channels")]
    ZeroPointCount {
        /// Channels.
        expected: usize,
        /// Zero points.
        found: usize,
    },
    /// A layer reads more or fewer activations than its kind does.
    #[error("layer {layer:?}: {found} activations in \"from\", {kind} reads {expected}")]
    SourceCount {
        layer: String,
        kind: &'static str,
        /// How many its kind reads.
        expected: &'static str,
        /// How many it names.
        found: usize,
    },
    /// A layer reads what is not before it.
    #[error("layer {layer:?}: {from:?} in \"from\" is neither the input nor an earlier layer")]
    UnknownSource {
        layer: String,
        /// The name given.
        from: String,
    },
    /// A zero point is not within its bounds.
    #[error("layer {layer:?}: the zero point {zero_point} is not within low {low} and high {high}")]
    Finish {
        layer: String,
        zero_point: u8,
        /// The least value.
        low: u8,
        /// The greatest value.
        high: u8,
    },
    /// Groups do not divide the channels.
    #[error("layer {layer:?}: {groups} groups do not divide both {inputs} input and {outputs} output channels")]
    Groups {
        layer: String,
        /// The number of groups.
        groups: usize,
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
    },
    /// A padding is not smaller than the kernel in its direction.
    #[error("layer {layer:?}: the {side} padding {padding} is not below the kernel's {kernel}")]
    Padding {
        layer: String,
        /// Of which side.
        side: &'static str,
        padding: u64,
        /// Rows or columns of the kernel.
        kernel: usize,
    },
    /// A kernel is larger than the (padded) input of its layer.
    #[error("layer {layer:?}: the kernel {}x{} is larger than the {height}x{width} it runs over", kernel[0], kernel[1])]
    Kernel {
        layer: String,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Rows, padding included.
        height: usize,
        /// Columns, padding included.
        width: usize,
    },
    /// An output has too many channels, rows or columns.
    #[error("layer {layer:?}: the output is {found}, more than {MAX_DIMENSION} in a direction")]
    OutputShape {
        layer: String,
        /// The output's shape.
        found: Shape,
    },
    /// An addition reads activations of two shapes.
    #[error("layer {layer:?}: it adds a {second} to a {first}, expected one shape")]
    AddShape {
        layer: String,
        /// The shape of what it reads first.
        first: Shape,
        /// The shape of what it reads second.
        second: Shape,
    },
    /// A multiplication reads activations whose shapes do not fit.
    #[error("layer {layer:?}: it multiplies a {first} by a {second}, expected {first} or {}x1x1", first.channels)]
    MultiplyShape {
        layer: String,
        /// The shape of what it reads first.
        first: Shape,
        /// The shape of what it reads second.
        second: Shape,
    },
    /// A concatenation reads activations of other rows or columns than the first.
    #[error("layer {layer:?}: {from:?} is {found}, expected rows and columns as in {expected}")]
    ConcatShape {
        layer: String,
        from: String,
        /// The shape of what is read first.
        expected: Shape,
        /// The activation's shape.
        found: Shape,
    },
    /// A concatenation reads activations of several zero points.
    #[error("layer {layer:?}: {from:?} has the zero point {found}, expected {expected} as of what it is joined to")]
    ConcatZeroPoint {
        layer: String,
        from: String,
        /// The zero point of what is read first.
        expected: u8,
        /// The activation's zero point.
        found: u8,
    },
    /// A layer that takes one zero point reads an input whose channels have several.
    #[error("layer {layer:?}: {kind} cannot read an input whose zero points differ, only conv, linear and lookup can")]
    InputZeroPoints { layer: String, kind: &'static str },
    /// The last layer, which gives the logits, is not linear.
    #[error("the last layer {layer:?} is {kind}, expected linear")]
    LastKind { layer: String, kind: &'static str },
    /// The last layer has what only bytes have.
    #[error("the last layer {layer:?} has zero_point, low and high, which logits do not have")]
    LastFinish { layer: String },
    /// A linear layer that is not the last lacks what bytes have.
    #[error("layer {layer:?}: it lacks zero_point, low and high, and is not the last")]
    MissingFinish { layer: String },
    /// A layer's output is for nothing.
    #[error("layer {layer:?} is read by no other")]
    Unread { layer: String },
    /// Too many elements are moved.
    #[error("layers move {found} elements an image by layer {layer:?}, more than {MAX_MOVED}")]
    Moved {
        /// The layer at which they are too many.
        layer: String,
        /// The elements up to there.
        found: u64,
    },
    /// Running the graph costs too much.
    #[error("an image costs {found} operations by layer {layer:?}, more than {MAX_COST}")]
    Cost {
        /// The layer at which it is too much.
        layer: String,
        /// The cost up to there.
        found: u64,
    },
    /// The weights take too much room.
    #[error("there are {found} packed weights by layer {layer:?}, more than {MAX_PACKED_WEIGHTS}")]
    PackedWeights {
        /// The layer at which they are too many.
        layer: String,
        /// The weights up to there.
        found: u64,
    },
}
