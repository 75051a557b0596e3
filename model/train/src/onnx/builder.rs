//! The layers that the values of an ONNX graph become.
//!
//! What scales, moves or clamps a layer's output becomes a part of the layer, as long as no other value sees it; else of the
//! layer that reads it, or a layer of its own: a function of each element, or a 1x1 convolution of each channel by itself.

use std::sync::Arc;

use ocelli_model::graph::{MAX_DIMENSION, MAX_LAYERS, Shape, Window};

use super::Fault;
use super::network::{Function, GivenBias, GivenGrid, GivenSums, LayerKind, Network, NetworkInput, NetworkLayer, Sums};
use super::tensor::{Constant, GivenIntegers};
use super::value::{Affine, Bytes, Layout, Map, Tensor};

/// The most numbers that are made on the way, so that a small file cannot ask for much memory.
const MAX_NUMBERS: usize = 1 << 27;
/// The most layers before those that nothing needs are left out.
const MAX_UNPRUNED: usize = 8 * MAX_LAYERS;
/// A function that is made of more operations than this becomes a layer before it grows on.
const MAX_FUNCTION: usize = 32;
/// How many deviations from the mean of a batch normalisation bound what is likely (M. Nagel et al., "Data-Free Quantization
/// Through Weight Equalization and Bias Correction", 2019, section 5).
const DEVIATIONS: f64 = 6.0;

/// Layers under construction.
#[derive(Debug)]
pub struct Builder {
    network: Network,
    /// For each layer that keeps what it reads, the activations that nobody else reads.
    reads_alone: Vec<Vec<usize>>,
    /// Whether the input's zero points may not change any more.
    is_padded: bool,
    /// What a byte of 0 is, where the file says that the input is bytes.
    least: Option<f64>,
    /// The node that is looked at.
    node: String,
    numbers: usize,
}

/// How a convolution's kernel runs.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    pub groups: usize,
    pub stride: [usize; 2],
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
}

impl Builder {
    /// Begins with the input; `least` is what a byte of 0 is where it is bytes, 0 or -128.
    pub fn new(shape: Shape, least: Option<f64>) -> Self {
        let input = NetworkInput { shape, grid: None, zeros: vec![0.0; shape.channels] };
        let network = Network { input, layers: Vec::new() };
        Self { network, reads_alone: Vec::new(), is_padded: false, least, node: String::new(), numbers: 0 }
    }

    /// Names the node that the next layers come from.
    pub fn at(&mut self, node: String) {
        self.node = node;
    }

    /// Counts numbers that are about to be made.
    pub fn spend(&mut self, numbers: usize) -> Result<(), Fault> {
        self.numbers = self.numbers.saturating_add(numbers);
        if self.numbers > MAX_NUMBERS {
            return Err(Fault::new(format!("the network needs more than {MAX_NUMBERS} numbers to be worked out")));
        }
        Ok(())
    }

    fn push(&mut self, from: Vec<usize>, kind: LayerKind, shape: Shape) -> Result<usize, Fault> {
        if self.network.layers.len() == MAX_UNPRUNED {
            return Err(Fault::new(format!(
                "the network becomes more than {MAX_UNPRUNED} layers, before those that do nothing are left out"
            )));
        }
        if shape.channels.max(shape.height).max(shape.width) > MAX_DIMENSION {
            return Err(Fault::new(format!("its output is {shape}, more than {MAX_DIMENSION} in a direction")));
        }
        self.network.layers.push(NetworkLayer {
            name: String::new(),
            node: self.node.clone(),
            from,
            kind,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            shape,
            grid: None,
            likely: None,
        });
        self.reads_alone.push(Vec::new());
        Ok(self.network.layers.len())
    }

    /// The layer whose output a tensor is, if nobody else sees it.
    fn alone(&mut self, tensor: &Tensor) -> Option<&mut NetworkLayer> {
        let is_plain = matches!(tensor.map, Map::Plain) && tensor.padding == [0; 4];
        let layer = tensor.activation.checked_sub(1).filter(|_| is_plain && tensor.is_alone)?;
        Some(&mut self.network.layers[layer])
    }

    /// A tensor as an activation of its own, but for zeros around it.
    fn settled(&mut self, tensor: &Tensor) -> Result<Tensor, Fault> {
        let (from, shape) = (vec![tensor.activation], tensor.shape);
        let kind = match &tensor.map {
            Map::Plain => return Ok(tensor.clone()),
            Map::Function(function) => LayerKind::Function(function.clone()),
            Map::Affine(affine) => match affine.as_function() {
                Some(function) => LayerKind::Function(Arc::new(function)),
                None if affine.scale.len() == shape.channels => {
                    self.spend(2 * shape.channels)?;
                    let weight = affine.scale.iter().map(|scale| *scale as f32).collect();
                    let sums = Sums { weight: Arc::new(weight), bias: affine.offset.clone(), given: None };
                    LayerKind::Conv { sums, groups: shape.channels, window: Window::square(1, 1, 0) }
                }
                None => {
                    return Err(Fault::new("single elements of an activation are changed, expected whole channels"));
                }
            },
        };
        let activation = self.push(from, kind, shape)?;
        Ok(Tensor { activation, map: Map::Plain, is_alone: true, ..tensor.clone() })
    }

    /// A tensor as an activation that any layer can read.
    fn readable(&mut self, tensor: &Tensor) -> Result<Tensor, Fault> {
        real(tensor)?;
        unpadded(tensor)?;
        let settled = self.settled(tensor)?;
        if settled.activation > 0 || self.network.input.grid.is_some() {
            return Ok(settled);
        }
        // Pixels have zero points of their own, which only some layers can read.
        let activation = self.push(vec![0], LayerKind::Function(Arc::new(Function::Given)), settled.shape)?;
        Ok(Tensor { activation, is_alone: true, ..settled })
    }

    /// A tensor scaled and moved for every channel, or for every element.
    pub fn affine(&mut self, tensor: &Tensor, affine: Affine) -> Result<Tensor, Fault> {
        real(tensor)?;
        if affine.is_identity() {
            return Ok(tensor.clone());
        }
        if affine.moves() {
            unpadded(tensor)?;
        }
        self.spend(2 * affine.scale.len())?;
        if let Some(layer) = self.alone(tensor)
            && layer.is_open()
            && let Some(sums) = layer.sums_mut()
            && affine.scale.len() == sums.bias.len()
        {
            let row = sums.weight.len() / sums.bias.len();
            let weights = Arc::make_mut(&mut sums.weight).chunks_exact_mut(row).zip(&mut sums.bias);
            for ((weights, bias), (scale, offset)) in weights.zip(affine.scale.iter().zip(&affine.offset)) {
                weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
                *bias = *bias * scale + offset;
            }
            sums.given = None;
            layer.likely = None;
            return Ok(tensor.clone());
        }
        let map = match (&tensor.map, affine.as_function()) {
            (Map::Plain, _) => Map::Affine(Arc::new(affine)),
            (Map::Affine(before), _) => Map::Affine(Arc::new(before.then(&affine))),
            (Map::Function(before), Some(after)) if before.size() < MAX_FUNCTION => {
                Map::Function(Arc::new(after.after(before)))
            }
            (Map::Function(_), _) => {
                let settled = self.settled(tensor)?;
                return Ok(Tensor { map: Map::Affine(Arc::new(affine)), ..settled });
            }
        };
        Ok(Tensor { map, ..tensor.clone() })
    }

    /// As [`Builder::affine`], and what is then likely by a batch normalisation of these means and deviations.
    pub fn normalised(
        &mut self,
        tensor: &Tensor,
        affine: Affine,
        means: &[f64],
        deviations: &[f64],
    ) -> Result<Tensor, Fault> {
        let found = self.affine(tensor, affine)?;
        if let Some(layer) = self.alone(&found)
            && layer.is_open()
        {
            let ends = means.iter().zip(deviations).flat_map(|(mean, deviation)| {
                [mean - DEVIATIONS * deviation.abs(), mean + DEVIATIONS * deviation.abs()]
            });
            let (low, high) = ends.fold((0f64, 0f64), |(low, high), end| (low.min(end), high.max(end)));
            layer.likely = Some((low, high));
        }
        Ok(found)
    }

    /// A function of every element.
    pub fn function(&mut self, tensor: &Tensor, of: impl Fn(Arc<Function>) -> Function) -> Result<Tensor, Fault> {
        real(tensor)?;
        if of(Arc::new(Function::Given)).of(0.0) != 0.0 {
            unpadded(tensor)?;
        }
        let (tensor, before) = match as_function(tensor) {
            Some(before) => (tensor.clone(), before),
            None => (self.settled(tensor)?, Arc::new(Function::Given)),
        };
        Ok(Tensor { map: Map::Function(Arc::new(of(before))), ..tensor })
    }

    /// Clamps a tensor.
    pub fn clamp(&mut self, tensor: &Tensor, low: f64, high: f64) -> Result<Tensor, Fault> {
        real(tensor)?;
        let settled = match &tensor.map {
            // A scale and a move for each channel are a layer, which is then clamped.
            Map::Affine(affine) if affine.as_function().is_none() => self.settled(tensor)?,
            _ => tensor.clone(),
        };
        if low <= 0.0
            && high >= 0.0
            && matches!(settled.map, Map::Plain)
            && settled.is_alone
            && settled.padding == [0; 4]
        {
            let mut layer = settled.activation;
            while let Some(index) = layer.checked_sub(1) {
                let found = &mut self.network.layers[index];
                match &found.kind {
                    LayerKind::MaxPool(_) if !self.reads_alone[index].is_empty() => layer = found.from[0],
                    kind if kind.is_clamped_in_passing() && found.grid.is_none() => {
                        (found.low, found.high) = (found.low.max(low), found.high.min(high));
                        return Ok(settled);
                    }
                    _ => break,
                }
            }
        }
        self.function(&settled, |x| {
            let low = Function::Greatest(x, Arc::new(Function::Constant(low)));
            if high.is_finite() { Function::Least(Arc::new(low), Arc::new(Function::Constant(high))) } else { low }
        })
    }

    /// A convolution with weights `(O, I / groups, rows, columns)`.
    pub fn conv(
        &mut self,
        tensor: &Tensor,
        weight: &Constant,
        bias: Option<&Constant>,
        running: Running,
    ) -> Result<Tensor, Fault> {
        real(tensor)?;
        let Running { groups, stride, dilation, .. } = running;
        let dims = tensor.layout.dims(tensor.shape);
        let expected = || {
            let inputs = tensor.shape.channels as f64 / groups.max(1) as f64;
            Fault::new(format!(
                "the weights are {:?} over {dims:?}, expected (channels, {inputs}, rows, columns) of {groups} groups",
                weight.dims
            ))
        };
        let [outputs, inputs, rows, columns] = weight.dims[..] else { return Err(expected()) };
        if tensor.layout != Layout::Nchw
            || groups == 0
            || inputs.checked_mul(groups) != Some(tensor.shape.channels)
            || !outputs.is_multiple_of(groups)
            || [outputs, rows, columns].contains(&0)
        {
            return Err(expected());
        }
        // Elements of the kernel that lie apart have zeros between them.
        let apart = |size: usize, dilation: usize| (size - 1).saturating_mul(dilation).saturating_add(1);
        let kernel = [apart(rows, dilation[0]), apart(columns, dilation[1])];
        let mut padding = running.padding;
        padding.iter_mut().zip(tensor.padding).for_each(|(all, more)| *all += more);
        let window = Window { kernel, stride, padding };
        let shape = Shape { channels: outputs, ..slide(tensor.shape, window)? };
        let taps = kernel[0].saturating_mul(kernel[1]);
        self.spend((outputs * inputs).saturating_mul(taps).saturating_mul(4))?;
        let mut given = weight.given.as_ref().and_then(|given| GivenSums::read(given, outputs, 0, bias));
        if let Some(given) = &mut given {
            given.weight = Arc::new(dilated(&given.weight, [rows, columns], dilation));
        }
        let weight = Arc::new(dilated(&floats(weight)?, [rows, columns], dilation));
        let sums = Sums { weight, bias: biases(bias, outputs)?, given };
        self.conv_of(tensor, sums, groups, window, shape)
    }

    fn conv_of(
        &mut self,
        tensor: &Tensor,
        sums: Sums,
        groups: usize,
        window: Window,
        shape: Shape,
    ) -> Result<Tensor, Fault> {
        let is_padded = window.padding != [0; 4];
        check_padding(window)?;
        let is_pixels = tensor.activation == 0 && self.network.input.grid.is_none();
        let affine = match &tensor.map {
            Map::Plain => Affine::of_channels(tensor.shape.channels),
            Map::Affine(affine) => (**affine).clone(),
            Map::Function(_) => {
                let settled = self.settled(tensor)?;
                return self.conv_of(&Tensor { padding: [0; 4], ..settled }, sums, groups, window, shape);
            }
        };
        // Zeros around a moved activation are not zeros around the activation itself, but around pixels they are the byte that
        // the mean is.
        let has_zero = !is_padded || if is_pixels { self.decide_zero_points(&affine) } else { !affine.moves() };
        if affine.scale.len() != tensor.shape.channels || !has_zero {
            let settled = if matches!(tensor.map, Map::Plain) {
                let function = LayerKind::Function(Arc::new(Function::Given));
                Tensor { activation: self.push(vec![tensor.activation], function, tensor.shape)?, ..tensor.clone() }
            } else {
                self.settled(tensor)?
            };
            let settled = Tensor { map: Map::Plain, padding: [0; 4], ..settled };
            return self.conv_of(&settled, sums, groups, window, shape);
        }
        let mut sums = sums;
        if !affine.is_identity() {
            sums = self.folded(sums, &affine, groups, window.taps())?;
        }
        let activation = self.push(vec![tensor.activation], LayerKind::Conv { sums, groups, window }, shape)?;
        Ok(Tensor::plain(activation, shape, Layout::Nchw))
    }

    /// Numbers for an activation before it is scaled and moved; `taps` weights in a row read one channel or element.
    fn folded(&mut self, mut sums: Sums, affine: &Affine, groups: usize, taps: usize) -> Result<Sums, Fault> {
        self.spend(sums.weight.len())?;
        let (outputs, row) = (sums.bias.len(), sums.weight.len() / sums.bias.len());
        let inputs = row / taps;
        let weight = Arc::make_mut(&mut sums.weight);
        for (output, (weights, bias)) in weight.chunks_exact_mut(row).zip(&mut sums.bias).enumerate() {
            let first = output / (outputs / groups) * inputs;
            for (input, weights) in weights.chunks_exact_mut(taps).enumerate() {
                let (scale, offset) = (affine.scale[first + input], affine.offset[first + input]);
                for weight in weights {
                    *bias += f64::from(*weight) * offset;
                    *weight = (f64::from(*weight) * scale) as f32;
                }
            }
        }
        sums.given = None;
        Ok(sums)
    }

    /// Has padding be the bytes that become zero, if there are such.
    fn decide_zero_points(&mut self, affine: &Affine) -> bool {
        if affine.scale.len() != self.network.input.shape.channels {
            return false;
        }
        let zeros: Vec<f64> = affine.scale.iter().zip(&affine.offset).map(|(scale, offset)| -offset / scale).collect();
        // As integers padding is the nearest byte, which costs no more than rounding pixels has.
        if !zeros.iter().all(|zero| (-0.5..=255.5).contains(zero)) {
            return false;
        }
        if !self.is_padded {
            (self.network.input.zeros, self.is_padded) = (zeros, true);
            return true;
        }
        zeros == self.network.input.zeros
    }

    /// A linear layer with a row of weights for each output, in the order of the tensor's elements.
    pub fn linear(
        &mut self,
        tensor: &Tensor,
        rows: Vec<f32>,
        bias: Vec<f64>,
        given: Option<GivenSums>,
    ) -> Result<Tensor, Fault> {
        real(tensor)?;
        unpadded(tensor)?;
        let (outputs, elements) = (bias.len(), tensor.shape.elements());
        self.spend(rows.len().saturating_mul(3))?;
        let in_order = |rows: &[f32]| {
            rows.chunks_exact(elements).flat_map(|row| tensor.layout.to_chw(tensor.shape, row)).collect()
        };
        let weight: Vec<f32> = in_order(&rows);
        let given = given.map(|given| {
            let rows = given.weight.chunks_exact(elements);
            let weight = Arc::new(rows.flat_map(|row| tensor.layout.to_chw(tensor.shape, row)).collect());
            GivenSums { weight, ..given }
        });
        let mut sums = Sums { weight: Arc::new(weight), bias, given };
        let mut read = tensor.clone();
        match &tensor.map {
            Map::Plain => {}
            Map::Affine(affine) if elements.is_multiple_of(affine.scale.len()) => {
                sums = self.folded(sums, affine, 1, elements / affine.scale.len())?;
            }
            _ => read = self.settled(tensor)?,
        }
        let shape = Shape { channels: outputs, height: 1, width: 1 };
        let activation = self.push(vec![read.activation], LayerKind::Linear(sums), shape)?;
        Ok(Tensor::plain(activation, shape, Layout::FlatChw))
    }

    /// The sum of two tensors.
    pub fn add(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
        if let Some(sum) = self.of_one(a, b, Function::Add)? {
            return Ok(sum);
        }
        let [first, second] = [self.readable(a)?, self.readable(b)?];
        if a.shape != b.shape || !is_same(a, b) {
            return Err(Fault::new(format!(
                "it adds activations of {:?} and {:?}, expected the same dimensions",
                a.layout.dims(a.shape),
                b.layout.dims(b.shape)
            )));
        }
        let activation = self.push(vec![first.activation, second.activation], LayerKind::Add, a.shape)?;
        Ok(Tensor::plain(activation, a.shape, a.layout))
    }

    /// The product of two tensors, one of which may have a single row and column.
    pub fn multiply(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
        if let Some(product) = self.of_one(a, b, Function::Multiply)? {
            return Ok(product);
        }
        let (a, b) = if a.shape.plane() < b.shape.plane() { (b, a) } else { (a, b) };
        let [first, second] = [self.readable(a)?, self.readable(b)?];
        // One number for each channel, in the same place, and not in that of rows or columns.
        let single = Shape { height: 1, width: 1, ..a.shape };
        let is_single = b.shape == single && b.layout.dims(single) == a.layout.dims(single);
        let is_flat = a.layout == a.layout.flat() && a.shape.channels > 1;
        if !(b.shape == a.shape && is_same(a, b) || is_single && !is_flat) {
            return Err(Fault::new(format!(
                "it multiplies activations of {:?} and {:?}, expected the same dimensions, or one row and column in the second",
                a.layout.dims(a.shape),
                b.layout.dims(b.shape)
            )));
        }
        let activation = self.push(vec![first.activation, second.activation], LayerKind::Multiply, a.shape)?;
        Ok(Tensor::plain(activation, a.shape, a.layout))
    }

    /// Two functions of the same activation as one; none if they are of others, or as they were quantised apart.
    pub fn of_one(
        &mut self,
        a: &Tensor,
        b: &Tensor,
        of: impl Fn(Arc<Function>, Arc<Function>) -> Function,
    ) -> Result<Option<Tensor>, Fault> {
        real(a)?;
        real(b)?;
        if a.activation != b.activation || a.layout != b.layout {
            return Ok(None);
        }
        unpadded(a)?;
        unpadded(b)?;
        let (Some(first), Some(second)) = (as_function(a), as_function(b)) else { return Ok(None) };
        Ok(Some(Tensor { map: Map::Function(Arc::new(of(first, second))), is_alone: false, ..a.clone() }))
    }

    /// The mean of each window; zeros around count.
    pub fn average_pool(&mut self, tensor: &Tensor, window: Window) -> Result<Tensor, Fault> {
        unpadded(tensor)?;
        if window == Window::square(1, 1, 0) {
            return Ok(tensor.clone());
        }
        let padded = window.padding != [0; 4];
        // The mean of what is scaled and moved is the mean, scaled and moved.
        let keeps =
            matches!(&tensor.map, Map::Affine(affine) if affine.scale.len() == tensor.shape.channels && !padded);
        let map = if keeps { tensor.map.clone() } else { Map::Plain };
        let read = if keeps { Tensor { map: Map::Plain, ..tensor.clone() } } else { tensor.clone() };
        let read = self.readable(&read)?;
        check_padding(window)?;
        let shape = slide(read.shape, window)?;
        let activation = self.push(vec![read.activation], LayerKind::AveragePool(window), shape)?;
        Ok(Tensor { map, ..Tensor::plain(activation, shape, tensor.layout) })
    }

    /// The maximum of each window; what is around does not count.
    pub fn max_pool(&mut self, tensor: &Tensor, window: Window) -> Result<Tensor, Fault> {
        unpadded(tensor)?;
        if window == Window::square(1, 1, 0) {
            return Ok(tensor.clone());
        }
        let keeps = matches!(&tensor.map, Map::Affine(affine)
            if affine.scale.len() == tensor.shape.channels && affine.scale.iter().all(|scale| *scale > 0.0));
        let map = if keeps { tensor.map.clone() } else { Map::Plain };
        let read = if keeps { Tensor { map: Map::Plain, ..tensor.clone() } } else { tensor.clone() };
        let read = if tensor.bytes.is_some() { read } else { self.readable(&read)? };
        check_padding(window)?;
        let shape = slide(read.shape, window)?;
        let activation = self.push(vec![read.activation], LayerKind::MaxPool(window), shape)?;
        self.reads_alone[activation - 1].extend(read.is_alone.then_some(read.activation));
        Ok(Tensor { map, bytes: tensor.bytes, ..Tensor::plain(activation, shape, tensor.layout) })
    }

    /// Channels side by side.
    pub fn concat(&mut self, tensors: &[Tensor]) -> Result<Tensor, Fault> {
        let first = &tensors[0];
        let bytes = first.bytes;
        let (mut from, mut alone) = (Vec::new(), Vec::new());
        for tensor in tensors {
            let size = |tensor: &Tensor| [tensor.shape.height, tensor.shape.width];
            if tensor.layout != first.layout || size(tensor) != size(first) || tensor.bytes != bytes {
                return Err(Fault::new(format!(
                    "it joins activations of {:?} and {:?}, expected the same rows and columns, and bytes of one scale",
                    first.layout.dims(first.shape),
                    tensor.layout.dims(tensor.shape)
                )));
            }
            let read = if bytes.is_some() { tensor.clone() } else { self.readable(tensor)? };
            from.push(read.activation);
            alone.extend(read.is_alone.then_some(read.activation));
        }
        let channels = tensors.iter().map(|tensor| tensor.shape.channels).sum();
        let shape = Shape { channels, ..first.shape };
        let activation = self.push(from, LayerKind::Concat, shape)?;
        self.network.layers[activation - 1].grid = bytes.map(|bytes| bytes.grid);
        self.reads_alone[activation - 1] = alone;
        Ok(Tensor { bytes, ..Tensor::plain(activation, shape, first.layout) })
    }

    /// What QuantizeLinear makes of a tensor.
    pub fn quantised(&mut self, tensor: &Tensor, bytes: Bytes) -> Result<Tensor, Fault> {
        real(tensor)?;
        unpadded(tensor)?;
        let grid = bytes.grid;
        let as_bytes = |activation: usize| Tensor {
            activation,
            map: Map::Plain,
            bytes: Some(bytes),
            is_alone: true,
            ..tensor.clone()
        };
        if tensor.activation == 0 && tensor.is_alone && self.network.input.grid == Some(grid) {
            return Ok(as_bytes(0));
        }
        if matches!(tensor.map, Map::Plain)
            && (self.grid_of(tensor.activation) == Some(grid)
                || tensor.is_alone && self.give_grid(tensor.activation, grid))
        {
            return Ok(Tensor { is_alone: tensor.is_alone, ..as_bytes(tensor.activation) });
        }
        let function = match &tensor.map {
            Map::Plain => Arc::new(Function::Given),
            Map::Function(function) => function.clone(),
            Map::Affine(affine) => match affine.as_function() {
                Some(function) => Arc::new(function),
                None => {
                    let settled = self.settled(tensor)?;
                    self.give_grid(settled.activation, grid);
                    return Ok(as_bytes(settled.activation));
                }
            },
        };
        if tensor.activation == 0 && tensor.is_alone && self.network.input.grid.is_none() && !self.reads_pixels() {
            // What the network reads may be the pixels' own bytes.
            if (0..=255u8).all(|byte| grid.byte(function.of(f64::from(byte))) == byte) {
                self.give_input(grid);
                return Ok(as_bytes(0));
            }
        }
        let activation = self.push(vec![tensor.activation], LayerKind::Function(function), tensor.shape)?;
        self.network.layers[activation - 1].grid = Some(grid);
        Ok(as_bytes(activation))
    }

    /// What DequantizeLinear makes of a tensor.
    pub fn dequantised(&mut self, tensor: &Tensor, grid: GivenGrid) -> Result<Tensor, Fault> {
        match tensor.bytes {
            Some(found) if found.grid == grid => Ok(Tensor { bytes: None, ..tensor.clone() }),
            Some(Bytes { grid: found, .. }) => Err(Fault::new(format!(
                "it reads bytes with a scale of {} and a zero point of {} that were written with {} and {}, expected the same",
                grid.scale, grid.zero_point, found.scale, found.zero_point
            ))),
            // Bytes that the network reads.
            None if self.is_signed(tensor).is_some() => {
                let pixels = Tensor { map: Map::Plain, ..tensor.clone() };
                let input = self.network.input.grid;
                if tensor.is_alone && (input == Some(grid) || input.is_none() && !self.reads_pixels()) {
                    self.give_input(grid);
                    return Ok(pixels);
                }
                let (scale, zero) = (f64::from(grid.scale), f64::from(grid.zero_point));
                let channels = tensor.shape.channels;
                self.affine(&pixels, Affine { scale: vec![scale; channels], offset: vec![-scale * zero; channels] })
            }
            None => Err(Fault::new("it reads what is not quantised, expected the bytes of QuantizeLinear")),
        }
    }

    /// Whether the file counts the bytes that a tensor is from -128 on; none if it is no bytes, of a QuantizeLinear or of the input
    /// as the file has it.
    pub fn is_signed(&self, tensor: &Tensor) -> Option<bool> {
        if let Some(bytes) = tensor.bytes {
            return Some(bytes.is_signed);
        }
        let least = self.least.filter(|_| tensor.activation == 0)?;
        let is_raw = match &tensor.map {
            Map::Plain => least == 0.0,
            Map::Affine(affine) => {
                affine.scale.iter().all(|scale| *scale == 1.0) && affine.offset.iter().all(|offset| *offset == least)
            }
            Map::Function(_) => false,
        };
        is_raw.then_some(least < 0.0)
    }

    fn reads_pixels(&self) -> bool {
        self.network.layers.iter().any(|layer| layer.from.contains(&0))
    }

    fn give_input(&mut self, grid: GivenGrid) {
        self.network.input.grid = Some(grid);
        self.network.input.zeros.fill(grid.zero_point.into());
        self.is_padded = true;
    }

    /// What the file gives for an activation's integers.
    fn grid_of(&self, activation: usize) -> Option<GivenGrid> {
        let Some(layer) = activation.checked_sub(1) else { return self.network.input.grid };
        let layer = &self.network.layers[layer];
        match layer.kind {
            LayerKind::MaxPool(_) => self.grid_of(layer.from[0]),
            _ => layer.grid,
        }
    }

    /// Gives an activation its integers; not if it has others, or is a pool over what others read too.
    fn give_grid(&mut self, activation: usize, grid: GivenGrid) -> bool {
        let Some(index) = activation.checked_sub(1) else { return false };
        let alone = self.reads_alone[index].clone();
        let layer = &mut self.network.layers[index];
        if let LayerKind::MaxPool(_) = layer.kind {
            return alone.first().is_some_and(|from| self.give_grid(*from, grid));
        }
        let is_given = *layer.grid.get_or_insert(grid) == grid;
        if is_given && matches!(layer.kind, LayerKind::Concat) {
            // What it joins has its integers, as far as it may.
            alone.iter().for_each(|from| _ = self.give_grid(*from, grid));
        }
        is_given
    }

    /// Ends with the logits, which a linear layer gives: that of the network, or one more.
    pub fn finish(mut self, logits: &Tensor) -> Result<Network, Fault> {
        self.node = "(the output)".into();
        unpadded(logits)?;
        if logits.shape.plane() != 1 && matches!(logits.layout, Layout::Nchw | Layout::Nhwc) {
            let dims = logits.layout.dims(logits.shape);
            return Err(Fault::new(format!("found {dims:?}")));
        }
        let logits = Tensor { bytes: None, ..logits.clone() };
        let whole =
            |window: Window, from: Shape| window.kernel == [from.height, from.width] && window.padding == [0; 4];
        let is_read = |network: &Network, activation| network.readers(activation).next().is_some();
        let mut last = logits.activation;
        let is_plain = matches!(logits.map, Map::Plain) && last > 0 && !is_read(&self.network, last);
        let from = is_plain.then(|| self.network.shape(self.network.layers[last - 1].from[0]));
        let is_last = from.is_some_and(|from| {
            let layer = &self.network.layers[last - 1];
            // Logits have no ends, as clamped numbers and bytes have.
            layer.is_open()
                && match layer.kind {
                    LayerKind::Linear(_) => true,
                    LayerKind::Conv { groups: 1, window, .. } => whole(window, from),
                    _ => false,
                }
        });
        if !is_last {
            let elements = logits.shape.elements();
            self.spend(elements.saturating_mul(elements))?;
            let mut weight = vec![0i16; elements * elements];
            weight.iter_mut().step_by(elements + 1).for_each(|weight| *weight = 1);
            let rows = weight.iter().copied().map(f32::from).collect();
            let bias = Some(GivenBias { values: vec![0; elements], scale: None });
            let given = GivenSums { weight: Arc::new(weight), scale: vec![1.0; elements], bias };
            // Classes stay in the file's order.
            let flat = Tensor { layout: logits.layout.flat(), ..logits };
            last = self.linear(&flat, rows, vec![0.0; elements], Some(given))?.activation;
        }
        let layer = &mut self.network.layers[last - 1];
        if let LayerKind::Conv { sums, .. } = &layer.kind {
            layer.kind = LayerKind::Linear(sums.clone());
        }
        Ok(pruned(self.network, last))
    }
}

/// The layers that the last one needs, in their order, with their names.
fn pruned(mut network: Network, last: usize) -> Network {
    let mut needed = vec![false; network.layers.len() + 1];
    needed[last] = true;
    for index in (0..last).rev() {
        if needed[index + 1] {
            network.layers[index].from.iter().for_each(|from| needed[*from] = true);
        }
    }
    network.layers.truncate(last);
    let mut places = vec![0];
    let mut counts = std::collections::BTreeMap::new();
    let mut layers: Vec<NetworkLayer> = Vec::new();
    for (index, mut layer) in network.layers.into_iter().enumerate() {
        if needed[index + 1] {
            let number: &mut usize = counts.entry(layer.kind.name()).or_default();
            *number += 1;
            layer.name = format!("{}{number}", layer.kind.name());
            layer.from.iter_mut().for_each(|from| *from = places[*from]);
            layers.push(layer);
        }
        places.push(layers.len());
    }
    Network { layers, ..network }
}

/// Whether elements of two tensors lie in the same places.
fn is_same(a: &Tensor, b: &Tensor) -> bool {
    a.layout.dims(a.shape) == b.layout.dims(b.shape) && a.layout.is_like(b.layout, a.shape)
}

/// Refuses windows of nothing but padding.
fn check_padding(Window { kernel, padding, .. }: Window) -> Result<(), Fault> {
    if (0..4).all(|side| padding[side] < kernel[side % 2]) {
        return Ok(());
    }
    Err(Fault::new(format!("pads are {padding:?}, expected four numbers below the kernel's {kernel:?}")))
}

/// The shape after a window has slid over another, of as many channels; none where it does not fit.
fn slide(over: Shape, window: Window) -> Result<Shape, Fault> {
    let [height, width] = window.padded(over);
    let size = |size: usize, direction: usize| {
        size.checked_sub(window.kernel[direction]).map(|rest| rest / window.stride[direction] + 1)
    };
    match (size(height, 0), size(width, 1)) {
        (Some(height), Some(width)) => Ok(Shape { height, width, ..over }),
        _ => {
            let [rows, columns] = window.kernel;
            Err(Fault::new(format!("a kernel of {rows}x{columns} is larger than the {over} it runs over")))
        }
    }
}

/// What is done to the activation of a tensor, if it is a function that may grow.
fn as_function(tensor: &Tensor) -> Option<Arc<Function>> {
    let function = match &tensor.map {
        Map::Plain => Some(Arc::new(Function::Given)),
        Map::Affine(affine) => affine.as_function().map(Arc::new),
        Map::Function(function) => Some(function.clone()),
    };
    function.filter(|function| function.size() < MAX_FUNCTION)
}

/// Refuses integers where numbers are expected.
fn real(tensor: &Tensor) -> Result<(), Fault> {
    match tensor.bytes {
        None => Ok(()),
        Some(_) => {
            Err(Fault::new("it reads the bytes of a QuantizeLinear, expected a DequantizeLinear between the two"))
        }
    }
}

/// Refuses zeros that are put around what is not convolved.
fn unpadded(tensor: &Tensor) -> Result<(), Fault> {
    if tensor.padding == [0; 4] {
        return Ok(());
    }
    Err(Fault::new(format!(
        "it reads what a Pad puts {:?} zeros around, expected a convolution after a Pad",
        tensor.padding
    )))
}

/// The elements of weights.
pub fn floats(weight: &Constant) -> Result<Vec<f32>, Fault> {
    match &weight.elements {
        super::tensor::Elements::Floats(values) => Ok(values.clone()),
        super::tensor::Elements::Integers(_) => Err(Fault::new("the weights are whole numbers, expected floats")),
    }
}

/// The biases, one for each output.
pub fn biases(constant: Option<&Constant>, outputs: usize) -> Result<Vec<f64>, Fault> {
    let Some(constant) = constant else { return Ok(vec![0.0; outputs]) };
    let values = constant.floats();
    match values.len() {
        1 => Ok(vec![values[0]; outputs]),
        count if count == outputs => Ok(values),
        count => Err(Fault::new(format!("the bias has {count} elements, expected {outputs}"))),
    }
}

/// Kernels of (rows, columns) with zeros between their elements.
fn dilated<T: Copy + Default>(values: &[T], [rows, columns]: [usize; 2], dilation: [usize; 2]) -> Vec<T> {
    if dilation == [1; 2] {
        return values.to_vec();
    }
    let [height, width] = [(rows - 1) * dilation[0] + 1, (columns - 1) * dilation[1] + 1];
    let mut found = vec![T::default(); values.len() / (rows * columns) * height * width];
    for (kernel, wide) in values.chunks_exact(rows * columns).zip(found.chunks_exact_mut(height * width)) {
        for (place, value) in kernel.iter().enumerate() {
            wide[place / columns * dilation[0] * width + place % columns * dilation[1]] = *value;
        }
    }
    found
}

impl GivenSums {
    /// The integers of weights with a step for each of the outputs, which the places of an axis are, and of biases; none if they
    /// are no bytes.
    pub(super) fn read(given: &GivenIntegers, outputs: usize, axis: usize, bias: Option<&Constant>) -> Option<Self> {
        let scale = match given.scale.len() {
            1 => vec![given.scale[0]; outputs],
            count if count == outputs && given.axis == axis => given.scale.clone(),
            _ => return None,
        };
        let weight: Option<Vec<i16>> =
            given.values.iter().map(|value| i16::try_from(*value).ok().filter(|value| value.abs() <= 255)).collect();
        let bias = match bias {
            None => Some(GivenBias { values: vec![0; outputs], scale: None }),
            Some(bias) => bias.given.as_ref().and_then(|given| {
                let values: Option<Vec<i32>> = given.values.iter().map(|value| i32::try_from(*value).ok()).collect();
                let scale = match given.scale.len() {
                    1 => vec![given.scale[0]; outputs],
                    count if count == outputs => given.scale.clone(),
                    _ => return None,
                };
                let values = values.filter(|values| values.len() == outputs)?;
                Some(GivenBias { values, scale: Some(scale) })
            }),
        };
        Some(Self { weight: Arc::new(weight?), scale, bias })
    }
}
