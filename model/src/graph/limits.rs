//! What a graph may have at most.

/// The version of the graph format.
pub const VERSION: u64 = 2;
/// The most layers a model has.
pub const MAX_LAYERS: usize = 512;
/// The most classes a model has.
pub const MAX_CLASSES: usize = 32_768;
/// The most activations that a `concat` reads.
pub const MAX_CONCAT: usize = 64;
/// The largest number of channels, rows, columns, kernel, stride or groups.
pub const MAX_DIMENSION: usize = 65_535;
/// The largest crop.
pub const MAX_CROP: u16 = 256;
/// The largest multiplier of an addition.
pub const MAX_MULTIPLIER: u32 = 1 << 21;
/// The largest shift of an addition.
pub const MAX_SHIFT: u8 = 30;
/// The longest name of a layer, in bytes.
pub const MAX_NAME: usize = 32;
/// The name of the input where a layer names what it reads.
pub const INPUT: &str = "input";
/// The most elements that all layers move for one image.
pub const MAX_MOVED: u64 = 1 << 26;
/// The highest cost.
pub const MAX_COST: u64 = 1 << 33;
/// The most packed weights of all layers.
pub const MAX_PACKED_WEIGHTS: u64 = 1 << 27;
