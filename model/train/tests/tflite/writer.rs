//! Writes TFLite files, by the slots of TensorFlow's schema.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};

pub const FLOAT32: i8 = 0;
pub const INT32: i8 = 2;
pub const UINT8: i8 = 3;
pub const INT8: i8 = 9;

/// A network under construction.
#[derive(Debug, Clone, Default)]
pub struct Network {
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
}

#[derive(Debug, Clone, Default)]
pub struct Tensor {
    pub kind: i8,
    pub shape: Vec<i32>,
    pub data: Vec<u8>,
    pub scales: Vec<f32>,
    pub zero_points: Vec<i64>,
    pub axis: i32,
    /// Whether it is a state.
    pub is_variable: bool,
    /// Which way of its own it is quantised in, 0 for none.
    pub details: u8,
    /// Its shape with -1 where that is open.
    pub signature: Vec<i32>,
}

#[derive(Debug, Clone)]
pub struct Operator {
    pub code: i32,
    pub version: i32,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    /// The number of its options in the schema's union, 0 for none, and their fields.
    pub options: (u8, Vec<(u16, Field)>),
}

#[derive(Debug, Clone, Copy)]
pub enum Field {
    I8(i8),
    I32(i32),
    F32(f32),
    List(&'static [i32]),
}

impl Network {
    pub fn tensor(&mut self, tensor: Tensor) -> i32 {
        self.tensors.push(tensor);
        self.tensors.len() as i32 - 1
    }

    /// An activation.
    pub fn activation(&mut self, shape: &[i32], scale: f32, zero_point: i64) -> i32 {
        let (scales, zero_points) = (vec![scale], vec![zero_point]);
        self.tensor(Tensor { kind: INT8, shape: shape.to_vec(), scales, zero_points, ..Tensor::default() })
    }

    pub fn integers(&mut self, shape: &[i32], numbers: &[i32]) -> i32 {
        let data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.tensor(Tensor { kind: INT32, shape: shape.to_vec(), data, ..Tensor::default() })
    }

    /// Weights, with a zero point of 0 for each scale.
    pub fn weights(&mut self, shape: &[i32], numbers: &[i8], scales: Vec<f32>, axis: i32) -> i32 {
        let (data, zero_points) = (numbers.iter().map(|number| *number as u8).collect(), vec![0; scales.len()]);
        self.tensor(Tensor { kind: INT8, shape: shape.to_vec(), data, scales, zero_points, axis, ..Tensor::default() })
    }

    pub fn operator(
        &mut self,
        (code, version): (i32, i32),
        inputs: &[i32],
        output: i32,
        kind: u8,
        fields: &[(u16, Field)],
    ) -> i32 {
        let (inputs, outputs) = (inputs.to_vec(), vec![output]);
        self.operators.push(Operator { code, version, inputs, outputs, options: (kind, fields.to_vec()) });
        output
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = FlatBufferBuilder::new();
        let mut buffers = vec![table(&mut file, |_| ())];
        let mut tensors = Vec::new();
        for (number, tensor) in self.tensors.iter().enumerate() {
            let mut buffer = 0;
            if !tensor.data.is_empty() {
                let data = file.create_vector(&tensor.data);
                buffers.push(table(&mut file, |file| file.push_slot_always(4, data)));
                buffer = buffers.len() as u32 - 1;
            }
            let (scales, zero_points) = (file.create_vector(&tensor.scales), file.create_vector(&tensor.zero_points));
            let quantization = table(&mut file, |file| {
                if !tensor.scales.is_empty() {
                    file.push_slot_always(8, scales);
                    file.push_slot_always(10, zero_points);
                }
                file.push_slot(12, tensor.details, 0);
                file.push_slot(16, tensor.axis, 0);
            });
            let signature = (!tensor.signature.is_empty()).then(|| file.create_vector(&tensor.signature));
            let (shape, name) = (file.create_vector(&tensor.shape), file.create_string(&format!("tensor {number}")));
            tensors.push(table(&mut file, |file| {
                file.push_slot_always(4, shape);
                file.push_slot(6, tensor.kind, 0);
                file.push_slot(8, buffer, 0);
                file.push_slot_always(10, name);
                file.push_slot_always(12, quantization);
                file.push_slot(14, tensor.is_variable, false);
                if let Some(signature) = signature {
                    file.push_slot_always(18, signature);
                }
            }));
        }
        let (mut codes, mut operators) = (Vec::new(), Vec::new());
        for (number, operator) in self.operators.iter().enumerate() {
            codes.push(table(&mut file, |file| {
                file.push_slot(4, operator.code.min(127) as i8, 0);
                file.push_slot(8, operator.version, 1);
                file.push_slot(10, operator.code, 0);
            }));
            let (inputs, outputs) = (file.create_vector(&operator.inputs), file.create_vector(&operator.outputs));
            let (kind, fields) = &operator.options;
            let lists: Vec<_> = (fields.iter())
                .map(|(_, field)| if let Field::List(list) = field { Some(file.create_vector(list)) } else { None })
                .collect();
            let options = table(&mut file, |file| {
                for ((slot, field), list) in fields.iter().zip(lists) {
                    let slot = 4 + 2 * slot;
                    match *field {
                        Field::List(_) => file.push_slot_always(slot, list.expect("it was written")),
                        Field::I8(value) => file.push_slot_always(slot, value),
                        Field::I32(value) => file.push_slot_always(slot, value),
                        Field::F32(value) => file.push_slot_always(slot, value),
                    }
                }
            });
            operators.push(table(&mut file, |file| {
                file.push_slot(4, number as u32, 0);
                file.push_slot_always(6, inputs);
                file.push_slot_always(8, outputs);
                if *kind != 0 {
                    file.push_slot_always(10, *kind);
                    file.push_slot_always(12, options);
                }
            }));
        }
        let (inputs, outputs) = (file.create_vector(&self.inputs), file.create_vector(&self.outputs));
        let (tensors, operators) = (file.create_vector(&tensors), file.create_vector(&operators));
        let subgraph = table(&mut file, |file| {
            file.push_slot_always(4, tensors);
            file.push_slot_always(6, inputs);
            file.push_slot_always(8, outputs);
            file.push_slot_always(10, operators);
        });
        let (codes, subgraphs) = (file.create_vector(&codes), file.create_vector(&[subgraph]));
        let (buffers, description) = (file.create_vector(&buffers), file.create_string("a test"));
        let model = table(&mut file, |file| {
            file.push_slot_always(4, 3u32);
            file.push_slot_always(6, codes);
            file.push_slot_always(8, subgraphs);
            file.push_slot_always(10, description);
            file.push_slot_always(12, buffers);
        });
        file.finish(model, Some("TFL3"));
        file.finished_data().to_vec()
    }
}

fn table<'a>(
    file: &mut FlatBufferBuilder<'a>,
    fields: impl FnOnce(&mut FlatBufferBuilder<'a>),
) -> WIPOffset<TableFinishedWIPOffset> {
    let start = file.start_table();
    fields(file);
    file.end_table(start)
}
