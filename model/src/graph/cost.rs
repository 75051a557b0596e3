//! What a graph costs to run: the number that a network's weight rule prices, and what is bounded beside it.

use super::error::GraphError;
use super::layer::{Operation, Shape};
use super::limits::{MAX_COST, MAX_MOVED, MAX_PACKED_WEIGHTS};

/// What a class costs: its logit is ranked.
const CLASS: u64 = 256;
/// What a layer costs at least: calling it.
const LAYER: u64 = 16_384;
/// What an element that is moved costs.
const ELEMENT: u64 = 8;

/// Sums over the layers of a graph, for one image. What would be beyond 64 bits stays at their greatest number, which no bound
/// allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Integer operations: for each layer the greatest of 8 times its moved elements, 16,384 and its products, and 256 for
    /// each class.
    pub operations: u64,
    /// Elements read and written, channels rounded up to 8, padding included.
    pub moved: u64,
    /// Weights, each group's output channels rounded up to 8.
    pub packed_weights: u64,
}

impl Cost {
    /// Adds a layer that reads activations of these shapes.
    pub(crate) fn add(&mut self, operation: &Operation, reads: &[Shape], output: Shape) {
        let moved = moved(operation, reads, output);
        let products = products(operation, reads[0], output);
        self.operations = self.operations.saturating_add((ELEMENT * moved).max(LAYER).max(products));
        self.moved = self.moved.saturating_add(moved);
        self.packed_weights = self.packed_weights.saturating_add(packed_weights(operation, reads[0]));
    }

    pub(crate) fn add_classes(&mut self, classes: usize) {
        self.operations = self.operations.saturating_add(CLASS * classes as u64);
    }

    /// Checks the sums up to a layer.
    pub(crate) fn check(&self, layer: &str) -> Result<(), GraphError> {
        let layer = || layer.to_owned();
        if self.moved > MAX_MOVED {
            return Err(GraphError::Moved { layer: layer(), found: self.moved });
        }
        if self.packed_weights > MAX_PACKED_WEIGHTS {
            return Err(GraphError::PackedWeights { layer: layer(), found: self.packed_weights });
        }
        if self.operations > MAX_COST {
            return Err(GraphError::Cost { layer: layer(), found: self.operations });
        }
        Ok(())
    }
}

/// Rounded up to a multiple of 8.
fn r8(number: usize) -> u64 {
    number.next_multiple_of(8) as u64
}

/// At most 2^16 channels of 2^18 by 2^18 elements, 64 times: far from 64 bits, even 8 times.
fn moved(operation: &Operation, reads: &[Shape], output: Shape) -> u64 {
    let read = |shape: &Shape| {
        let [height, width] = operation.window().map_or([shape.height, shape.width], |window| window.padded(*shape));
        r8(shape.channels) * (height * width) as u64
    };
    reads.iter().map(read).sum::<u64>() + r8(output.channels) * output.plane() as u64
}

/// The multiply-accumulates of a layer as kernels do them: output channels rounded up to 8, padding included.
pub fn products(operation: &Operation, input: Shape, output: Shape) -> u64 {
    let plane = output.plane() as u64;
    match *operation {
        Operation::Conv { .. } | Operation::Linear { .. } => {
            let weights = match *operation {
                // A channel for a channel: kernels take 8 of them at once.
                Operation::Conv { channels, groups, window, .. } if groups == input.channels && groups == channels => {
                    r8(channels) * window.taps() as u64
                }
                _ => packed_weights(operation, input),
            };
            plane.saturating_mul(weights)
        }
        Operation::AveragePool { window, .. } | Operation::MaxPool { window } => {
            plane.saturating_mul(window.taps() as u64).saturating_mul(r8(output.channels))
        }
        Operation::Multiply { .. } => r8(output.channels) * plane,
        Operation::Add { .. } | Operation::Concat | Operation::Lookup { .. } => 0,
    }
}

fn packed_weights(operation: &Operation, input: Shape) -> u64 {
    match *operation {
        Operation::Conv { channels, groups, window, .. } => {
            let taps = window.taps() as u64;
            if groups == input.channels && groups == channels {
                return taps * channels as u64;
            }
            // groups * (input channels / groups) are the input channels.
            taps.saturating_mul(input.channels as u64).saturating_mul(r8(channels / groups))
        }
        Operation::Linear { channels, .. } => r8(channels).saturating_mul(input.elements() as u64),
        _ => 0,
    }
}
