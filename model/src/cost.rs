//! What a model costs to run: the number that a network's weight rule prices.

use crate::graph::{Graph, Operation};

/// The sum over the layers of the larger of multiply-accumulates and elements moved, for one image.
///
/// Multiply-accumulates count padding as if it were input. Elements moved are activations: a convolution or linear layer
/// reads its input and its skip once, a pool reads its whole window for every output; every layer writes its output.
///
/// The graph's tensors must have been found in a file: then a layer has at most 2^26 weights and 2^22 outputs, and no
/// product here can overflow.
pub(crate) fn cost(graph: &Graph) -> u64 {
    (0..graph.layers().len()).map(|layer| layer_cost(graph, layer)).sum()
}

fn layer_cost(graph: &Graph, layer: usize) -> u64 {
    let input = graph.activations()[layer].elements() as u64;
    let output = graph.activations()[layer + 1].elements() as u64;
    match graph.layers()[layer].operation {
        Operation::Conv { kernel, .. } => {
            let taps = graph.activations()[layer].channels as u64 * (kernel * kernel) as u64;
            let skip = if graph.skip(layer).is_some() { output } else { 0 };
            (output * taps).max(input + skip + output)
        }
        Operation::Linear { .. } => {
            let skip = if graph.skip(layer).is_some() { output } else { 0 };
            (output * input).max(input + skip + output)
        }
        Operation::MaxPool { kernel, .. } | Operation::SumPool { kernel, .. } => {
            output * (kernel * kernel) as u64 + output
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Layer, Shape};
    use crate::zoo;

    #[test]
    fn reference_network() {
        let expected = 32 * 30 * 30 * 27
            + 32 * 15 * 15 * 5
            + 64 * 13 * 13 * 288
            + 64 * 6 * 6 * 5
            + 64 * 4 * 4 * 576
            + 64 * 1024
            + 10 * 64;
        assert_eq!(cost(&zoo::cifar10_cnn()), expected);
    }

    #[test]
    fn moving_counts_where_it_outweighs() {
        // A 1x1 convolution of stride 2 over one channel: 4 multiplications, 16 elements read and 4 written.
        let input = Shape { channels: 1, height: 4, width: 4 };
        let graph = Graph::new(input, vec![Layer::conv("a", 1, 1, 2, 0), Layer::linear("b", 1)]).unwrap();
        assert_eq!(cost(&graph), 20 + 5);
        // With a skip of the output's 16 elements: 16 multiplications, 16 + 16 read, 16 written.
        let layers = vec![Layer::conv("a", 1, 1, 1, 0).with_skip("input"), Layer::linear("b", 1)];
        assert_eq!(cost(&Graph::new(input, layers).unwrap()), 48 + 17);
        // Padding counts: 6x6 outputs of 9 multiplications each. Windows overlap: 5x5 of 4 each, and 25 written.
        let layers = vec![Layer::conv("a", 1, 3, 1, 2), Layer::sum_pool("p", 2, 1, 2), Layer::linear("b", 1)];
        assert_eq!(cost(&Graph::new(input, layers).unwrap()), 324 + 125 + 26);
    }
}
