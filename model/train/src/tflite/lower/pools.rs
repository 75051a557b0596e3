//! Pools.

use ocelli_model::graph::{Layer, Operation, Shape, Window};
use ocelli_model::{Finish, Parameters};

use super::super::Fault;
use super::super::arithmetic::{Activation, Quantisation};
use super::super::file::{Operator, kind};
use super::{AVERAGE_POOL, Lowering, OTHER, RANK, Value, activation_of, options, slide, window};

impl<'a> Lowering<'a> {
    fn pool_window(operator: &Operator<'a>, x: &Value) -> Result<(Window, Activation), Fault> {
        let options = options(operator, 5)?;
        let kernel = [options.i32(4, 0)?, options.i32(3, 0)?].map(|size| usize::try_from(size).unwrap_or(0));
        let window = window(x, kernel, [options.i32(2, 0)?, options.i32(1, 0)?], options.i8(0, 0)?)?;
        Ok((window, activation_of(options.i8(5, 0)?)?))
    }

    pub(super) fn average_pool(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let x = self.picture(operator)?;
        let (window, activation) = Self::pool_window(operator, &x)?;
        if window.padding != x.padding {
            return Err(Fault::new(
                "its padding is left out of its mean, which no layer of ours does",
                "have it pool without padding",
            ));
        }
        self.unchanged(operator, &x)?;
        let finish = x.quantisation.finish(activation);
        self.mean_of(operator, &x, window, x.quantisation, finish, AVERAGE_POOL)
    }

    pub(super) fn mean(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let x = self.value(operator, 0)?;
        let (axes, _) = self.constant(operator, 1, kind::INT32)?;
        let rank = x.dims.len() as i32;
        let axes = axes.data.unwrap_or_default().as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
        let mut axes: Vec<i32> =
            axes.take(RANK).map(|axis| if axis < 0 { axis.saturating_add(rank) } else { axis }).collect();
        axes.sort_unstable();
        let Shape { channels, height, width } = x.shape;
        if x.dims != [1, height, width, channels] || axes != [1, 2] {
            return Err(Fault::new(
                format!("it is over dimensions {axes:?} of {:?}, expected rows and columns", x.dims),
                OTHER,
            ));
        }
        let window = Window { kernel: [height, width], stride: [1; 2], padding: [0; 4] };
        let quantisation = self.written(operator)?;
        self.mean_of(operator, &x, window, quantisation, quantisation.finish(Activation::None), "mean")
    }

    fn mean_of(
        &mut self,
        operator: &Operator<'a>,
        x: &Value,
        window: Window,
        quantisation: Quantisation,
        finish: Finish,
        name: &str,
    ) -> Result<(), Fault> {
        let shape = slide(x.shape, window, x.shape.channels)?;
        let scale = x.quantisation.scale / window.taps() as f32 / quantisation.scale;
        let parameters = Parameters { scale: vec![scale], ..Parameters::default() };
        let value = Self::output(shape, quantisation, finish);
        self.push(operator, name, &[&x.from], Operation::AveragePool { window, finish }, parameters, value)
    }

    pub(super) fn max_pool(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let x = self.picture(operator)?;
        let (window, activation) = Self::pool_window(operator, &x)?;
        self.unchanged(operator, &x)?;
        if x.padding != [0; 4] && x.low < x.quantisation.zero_byte() {
            let reason = "a PAD before it adds zeros, which are greater than other values";
            return Err(Fault::new(reason, "pad by the pool itself, or after a ReLU"));
        }
        let shape = slide(x.shape, window, x.shape.channels)?;
        let finish = x.quantisation.finish(activation);
        let (low, high) = (x.low.max(finish.low), x.high.min(finish.high));
        let value = Self::output(shape, x.quantisation, Finish { low: x.low, high: x.high, ..finish });
        let operation = Operation::MaxPool { window };
        if (low, high) == (x.low, x.high) {
            return self.push(operator, "max_pool", &[&x.from], operation, Parameters::default(), value);
        }
        let name = format!("max_pool_{}", self.index);
        self.layers.push(Layer::new(&name, &[&x.from], operation));
        self.parameters.push(Parameters::default());
        let table = (0..=255u8).map(|byte| byte.clamp(finish.low, finish.high)).collect();
        let parameters = Parameters { table, ..Parameters::default() };
        let operation = Operation::Lookup { zero_point: finish.zero_point };
        self.push(
            operator,
            "clamp",
            &[&name],
            operation,
            parameters,
            Value { low: finish.low, high: finish.high, ..value },
        )
    }
}
