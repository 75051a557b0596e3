//! The tables of a TFLite file that are read, by the slots of TensorFlow's schema (`tensorflow/lite/schema/schema.fbs`).
//!
//! The crate flatbuffers has a verifier, which follows offsets only where they lead to tables and vectors within the file, and
//! counts what it visits. Everything is read through it: what code made by `flatc` would add is unsafe, and is not needed for the
//! dozen tables that matter here.

use flatbuffers::{InvalidFlatbuffer, Vector, Verifiable, Verifier, VerifierOptions};

use super::TfliteError;

/// What a TFLite file has at its fifth byte.
pub const IDENTIFIER: &[u8] = b"TFL3";
/// The version of the schema.
const VERSION: i32 = 3;
/// The most operators of a network.
pub const MAX_OPERATORS: usize = 4096;
/// The most tensors of a network.
pub const MAX_TENSORS: usize = 16_384;
/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// The most tensors that an operator reads or writes.
const MAX_READ: usize = 256;
/// The longest name that is kept, in characters.
const MAX_NAME: usize = 100;
/// The slots of a table that are looked at: no table has one behind these that matters.
const SLOTS: usize = 8;
/// More tables than a file has within the other limits.
const MAX_TABLES: usize = 1 << 17;

/// The types of tensors that are told apart.
pub mod kind {
    pub const FLOAT32: u8 = 0;
    pub const INT32: u8 = 2;
    pub const UINT8: u8 = 3;
    pub const INT8: u8 = 9;
}

const KINDS: &str = "FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 RESOURCE \
VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4";

/// The builtin operators by their codes, from 0.
const OPERATORS: &str = "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP \
FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM \
MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS \
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND \
TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT \
LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL \
LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW \
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV \
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS \
SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND \
HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL \
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND \
HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS \
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD \
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT";

/// A network as the file has it.
#[derive(Debug)]
pub struct File<'a> {
    pub tensors: Vec<Tensor<'a>>,
    /// In the order in which they run.
    pub operators: Vec<Operator<'a>>,
    /// The tensors that come from outside.
    pub inputs: Vec<usize>,
    /// The tensors that are the result.
    pub outputs: Vec<usize>,
    /// Who wrote the file, as it says.
    pub description: String,
    /// Where in the file the length of the list of results is.
    outputs_at: usize,
    /// Where in the file the length of the list of operators is.
    operators_at: usize,
    /// For each tensor the operator that writes it.
    writers: Vec<Option<usize>>,
}

/// A tensor: what an operator reads or writes, or a constant.
#[derive(Debug)]
pub struct Tensor<'a> {
    pub name: String,
    /// Its type, one of [`kind`] or another.
    pub kind: u8,
    pub shape: Vec<i32>,
    /// The bytes of a constant, as they lie in the file.
    pub data: Option<&'a [u8]>,
    /// The dimension that the scales belong to, where there are several.
    pub axis: i32,
    /// What else it is besides its type, as it is said before that: its data leave zeros out, or it is a state.
    pub special: Option<&'static str>,
    /// Whether its numbers stand for others in a way of their own, besides scales and zero points.
    pub has_details: bool,
    /// Its shape with -1 where the file leaves it open; empty where it leaves nothing open.
    pub signature: Vec<i32>,
    /// As they lie in the file: f32.
    scales: &'a [u8],
    /// As they lie in the file: i64.
    zero_points: &'a [u8],
}

/// A step of the network.
#[derive(Debug)]
pub struct Operator<'a> {
    pub code: i32,
    /// The tensors that it reads; none for one that is left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
    /// Which operator's options there are; 0 for none.
    pub options_kind: u8,
    pub options: Table<'a>,
}

/// Where the fields of a table lie.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    file: &'a [u8],
    fields: [Option<usize>; SLOTS],
}

impl<'a> File<'a> {
    /// Finds the tables of a file.
    pub fn read(file: &'a [u8]) -> Result<Self, TfliteError> {
        if !is_tflite(file) {
            return Err(TfliteError::NotTflite);
        }
        let options = VerifierOptions { max_tables: MAX_TABLES, ..VerifierOptions::default() };
        let mut reader = Reader { verifier: Verifier::new(&options, file), file };
        let root = reader.follow(0)?;
        let model = reader.table(root)?;
        let version = model.i32(0, 0)?;
        if version != VERSION {
            return Err(broken(format!("the file is of version {version}, expected {VERSION}")));
        }
        let codes = reader.tables(&model, 1, MAX_OPERATORS)?;
        let codes = codes.into_iter().map(|at| reader.operator_code(at)).collect::<Result<Vec<_>, _>>()?;
        let subgraphs = reader.tables(&model, 2, MAX_OPERATORS)?;
        let [subgraph] = subgraphs[..] else {
            return Err(broken(format!("the file holds {} networks, expected one", subgraphs.len())));
        };
        let description = reader.text(&model, 3)?;
        let buffers = reader.tables(&model, 4, 4 * MAX_TENSORS)?;
        let subgraph = reader.table(subgraph)?;
        let tensors = reader.tables(&subgraph, 0, MAX_TENSORS)?;
        let tensors = tensors.into_iter().map(|at| reader.tensor(at, &buffers)).collect::<Result<Vec<_>, _>>()?;
        let operators = reader.tables(&subgraph, 3, MAX_OPERATORS)?;
        let operators = operators
            .into_iter()
            .map(|at| reader.operator(at, &codes, tensors.len()))
            .collect::<Result<Vec<_>, _>>()?;
        let inputs = reader.all(&subgraph, 1, tensors.len())?;
        let outputs = reader.all(&subgraph, 2, tensors.len())?;
        let at = |reader: &mut Reader<'_, '_>, slot: usize| subgraph.fields[slot].map_or(Ok(0), |at| reader.follow(at));
        let (outputs_at, operators_at) = (at(&mut reader, 2)?, at(&mut reader, 3)?);
        let mut writers = vec![None; tensors.len()];
        for (index, operator) in operators.iter().enumerate() {
            for &output in &operator.outputs {
                let name = &tensors[output].name;
                if inputs.contains(&output) || tensors[output].data.is_some() {
                    return Err(broken(format!(
                        "operator {index} writes tensor {name:?}, which is an input or a constant, expected another"
                    )));
                }
                if let Some(first) = writers[output].replace(index) {
                    return Err(broken(format!(
                        "operators {first} and {index} both write tensor {name:?}, expected one"
                    )));
                }
            }
        }
        Ok(Self { tensors, operators, inputs, outputs, description, outputs_at, operators_at, writers })
    }

    /// The operator that writes a tensor.
    pub fn writer(&self, tensor: usize) -> Option<usize> {
        self.writers[tensor]
    }

    /// The file that ends with a tensor: its only result, written by its last operator. Of a file that this was read from.
    pub fn ending_with(&self, file: &[u8], tensor: usize) -> Vec<u8> {
        let mut file = file.to_vec();
        let operators = self.writer(tensor).map_or(0, |last| last + 1);
        for (at, number) in [(self.outputs_at, 1), (self.outputs_at + 4, tensor), (self.operators_at, operators)] {
            // Lists may only become shorter, and a file has a result.
            if let Some(bytes) = file.get_mut(at..at + 4) {
                bytes.copy_from_slice(&(number as u32).to_le_bytes());
            }
        }
        file
    }
}

/// Whether a file says of itself that it is one.
pub fn is_tflite(file: &[u8]) -> bool {
    file.get(4..8) == Some(IDENTIFIER)
}

impl Tensor<'_> {
    pub fn scales(&self) -> impl ExactSizeIterator<Item = f32> {
        self.scales.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    pub fn zero_points(&self) -> impl ExactSizeIterator<Item = i64> {
        self.zero_points.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// The name of its type.
    pub fn kind_name(&self) -> String {
        name_of(KINDS, i32::from(self.kind), "type")
    }
}

impl Operator<'_> {
    /// The name of the operator.
    pub fn name(&self) -> String {
        name_of(OPERATORS, self.code, "operator")
    }
}

fn name_of(names: &str, code: i32, what: &str) -> String {
    let name = usize::try_from(code).ok().and_then(|code| names.split_whitespace().nth(code));
    name.map_or_else(|| format!("{what} {code}"), str::to_owned)
}

impl<'a> Table<'a> {
    /// A table without fields, which all have their defaults.
    pub fn empty() -> Self {
        Self { file: &[], fields: [None; SLOTS] }
    }

    pub fn i8(&self, slot: usize, default: i8) -> Result<i8, TfliteError> {
        self.bytes(slot, default.to_le_bytes()).map(i8::from_le_bytes)
    }

    pub fn i32(&self, slot: usize, default: i32) -> Result<i32, TfliteError> {
        self.bytes(slot, default.to_le_bytes()).map(i32::from_le_bytes)
    }

    pub fn f32(&self, slot: usize, default: f32) -> Result<f32, TfliteError> {
        self.bytes(slot, default.to_le_bytes()).map(f32::from_le_bytes)
    }

    /// A list of numbers; `None` where there is none.
    pub fn numbers(&self, slot: usize) -> Result<Option<Vec<i32>>, TfliteError> {
        let Some(field) = self.fields[slot] else { return Ok(None) };
        let word = |at: usize| self.file.get(at..).and_then(|rest| rest.first_chunk()).copied().map(i32::from_le_bytes);
        let list = || {
            let at = field.checked_add(usize::try_from(word(field)?).ok()?)?;
            let count = usize::try_from(word(at)?).ok().filter(|count| *count <= MAX_RANK)?;
            (1..=count).map(|place| word(at + 4 * place)).collect::<Option<Vec<i32>>>()
        };
        list().map(Some).ok_or_else(|| broken(format!("an option is no list of at most {MAX_RANK} numbers")))
    }

    fn u64(&self, slot: usize, default: u64) -> Result<u64, TfliteError> {
        self.bytes(slot, default.to_le_bytes()).map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&self, slot: usize, default: [u8; N]) -> Result<[u8; N], TfliteError> {
        let Some(at) = self.fields[slot] else { return Ok(default) };
        let found = self.file.get(at..).and_then(|rest| rest.first_chunk());
        found.copied().ok_or_else(|| broken("a field lies outside of the file".into()))
    }
}

/// Follows offsets.
struct Reader<'options, 'a> {
    verifier: Verifier<'options, 'a>,
    file: &'a [u8],
}

impl<'a> Reader<'_, 'a> {
    fn table(&mut self, at: usize) -> Result<Table<'a>, TfliteError> {
        let mut found = self.verifier.visit_table(at)?;
        let mut fields = [None; SLOTS];
        for (slot, field) in fields.iter_mut().enumerate() {
            *field = found.deref(4 + 2 * slot as u16)?;
        }
        found.finish();
        Ok(Table { file: self.file, fields })
    }

    /// Where an offset leads.
    fn follow(&mut self, at: usize) -> Result<usize, TfliteError> {
        Ok(at.saturating_add(self.verifier.get_uoffset(at)? as usize))
    }

    /// Where the elements of a list begin, and their bytes; nothing where there is no list.
    fn list<T>(&mut self, table: &Table<'a>, slot: usize) -> Result<(usize, &'a [u8]), TfliteError>
    where
        for<'v> Vector<'v, T>: Verifiable,
    {
        let Some(field) = table.fields[slot] else { return Ok((0, &[])) };
        let at = self.follow(field)?;
        Vector::<T>::run_verifier(&mut self.verifier, at)?;
        let bytes = self.verifier.get_uoffset(at)? as usize * size_of::<T>();
        let found = self.file.get(at + 4..).and_then(|rest| rest.get(..bytes));
        Ok((at + 4, found.ok_or_else(|| broken("a list lies outside of the file".into()))?))
    }

    /// Where the tables of a list are.
    fn tables(&mut self, table: &Table<'a>, slot: usize, most: usize) -> Result<Vec<usize>, TfliteError> {
        let (start, bytes) = self.list::<u32>(table, slot)?;
        let count = bytes.len() / 4;
        if count > most {
            return Err(broken(format!("a list of {count} tables, more than {most}")));
        }
        (0..count).map(|index| self.follow(start + 4 * index)).collect()
    }

    fn numbers(&mut self, table: &Table<'a>, slot: usize, most: usize) -> Result<Vec<i32>, TfliteError> {
        let (_, bytes) = self.list::<i32>(table, slot)?;
        let numbers = bytes.as_chunks().0;
        if numbers.len() > most {
            return Err(broken(format!("a list of {} numbers, more than {most}", numbers.len())));
        }
        Ok(numbers.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect())
    }

    /// Tensors, of which none is left out.
    fn all(&mut self, table: &Table<'a>, slot: usize, tensors: usize) -> Result<Vec<usize>, TfliteError> {
        let numbers = self.numbers(table, slot, MAX_READ)?;
        numbers.into_iter().map(|number| index(number, tensors)).collect()
    }

    /// A name, without what a terminal should not get.
    fn text(&mut self, table: &Table<'a>, slot: usize) -> Result<String, TfliteError> {
        let (_, bytes) = self.list::<u8>(table, slot)?;
        // No character takes more than four bytes.
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_NAME)]);
        Ok(start.chars().filter(|character| !character.is_control()).take(MAX_NAME).collect())
    }

    fn operator_code(&mut self, at: usize) -> Result<i32, TfliteError> {
        let table = self.table(at)?;
        // The first had only seven bits, and is kept for older readers.
        Ok(i32::from(table.i8(0, 0)?).max(table.i32(3, 0)?))
    }

    fn operator(&mut self, at: usize, codes: &[i32], tensors: usize) -> Result<Operator<'a>, TfliteError> {
        let table = self.table(at)?;
        let code = codes.get(index(table.i32(0, 0)?, codes.len())?).copied().unwrap_or_default();
        let inputs = self.numbers(&table, 1, MAX_READ)?;
        let inputs = inputs.into_iter().map(|number| (number != -1).then(|| index(number, tensors)).transpose());
        let options = match table.fields[4] {
            Some(field) => {
                let at = self.follow(field)?;
                self.table(at)?
            }
            None => Table::empty(),
        };
        Ok(Operator {
            code,
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: self.all(&table, 2, tensors)?,
            options_kind: table.i8(3, 0)?.cast_unsigned(),
            options,
        })
    }

    fn tensor(&mut self, at: usize, buffers: &[usize]) -> Result<Tensor<'a>, TfliteError> {
        let table = self.table(at)?;
        let quantization = match table.fields[4] {
            Some(field) => {
                let at = self.follow(field)?;
                self.table(at)?
            }
            None => Table::empty(),
        };
        let buffer = index(table.i32(2, 0)?, buffers.len().max(1))?;
        let data = buffers.get(buffer).map(|at| self.buffer(*at)).transpose()?;
        Ok(Tensor {
            name: self.text(&table, 3)?,
            kind: table.i8(1, 0)?.cast_unsigned(),
            shape: self.numbers(&table, 0, MAX_RANK)?,
            data: data.filter(|data| !data.is_empty()),
            axis: quantization.i32(6, 0)?,
            special: match (table.fields[6], table.i8(5, 0)?) {
                (Some(_), _) => Some("sparse"),
                (None, 0) => None,
                (None, _) => Some("variable"),
            },
            has_details: quantization.i8(4, 0)? != 0,
            signature: self.numbers(&table, 7, MAX_RANK)?,
            scales: self.list::<f32>(&quantization, 2)?.1,
            zero_points: self.list::<i64>(&quantization, 3)?.1,
        })
    }

    /// The bytes of a buffer, within the tables or, of large files, after them.
    fn buffer(&mut self, at: usize) -> Result<&'a [u8], TfliteError> {
        let table = self.table(at)?;
        let (offset, size) = (table.u64(1, 0)?, table.u64(2, 0)?);
        if offset <= 1 {
            return Ok(self.list::<u8>(&table, 0)?.1);
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        let found = range.and_then(|(offset, size)| self.file.get(offset..)?.get(..size));
        found.ok_or_else(|| broken("a buffer lies outside of the file".into()))
    }
}

fn index(number: i32, count: usize) -> Result<usize, TfliteError> {
    let index = usize::try_from(number).ok().filter(|index| *index < count);
    index.ok_or_else(|| broken(format!("number {number} of a list of {count}")))
}

fn broken(reason: String) -> TfliteError {
    TfliteError::Broken { reason }
}

impl From<InvalidFlatbuffer> for TfliteError {
    fn from(error: InvalidFlatbuffer) -> Self {
        // Its first line says what, the others where.
        let text = error.to_string();
        broken(text.lines().next().unwrap_or_default().trim_end_matches('.').to_lowercase())
    }
}
