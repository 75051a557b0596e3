//! The model file: a safetensors container, read strictly and written deterministically.
//!
//! `u64 n` (little-endian), `n` bytes of JSON, then the tensors' bytes without gaps. The JSON's `__metadata__` holds two
//! strings that are JSON themselves: `graph`, which is executed, and `display`, which never is.

use crate::display::{Display, DisplayError};
use crate::graph::{Graph, GraphError, Operation};
use crate::json::{self, Json, JsonError, quote};

/// The largest model file, in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// The longest JSON header, in bytes, its padding included.
pub const MAX_HEADER_BYTES: usize = 1 << 20;

const METADATA: &str = "__metadata__";
const GRAPH: &str = "graph";
const DISPLAY: &str = "display";

/// The numbers of one layer. Lists that a layer does not have are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// `(O, I / groups, rows, columns)` or `(O, I)`, row-major, each in -127..=127.
    pub weight: Vec<i8>,
    /// `(O)`: added to the sum.
    pub bias: Vec<i32>,
    /// `(O)`, or `(1)` of a layer without weights: what a sum is multiplied by. Of the last layer it may be empty.
    pub scale: Vec<f32>,
    /// `(256)`: what a lookup makes of each byte.
    pub table: Vec<u8>,
}

/// All that a model file holds, to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// What is executed.
    pub graph: Graph,
    /// The numbers of every layer, one entry a layer, those without any included.
    pub parameters: Vec<Parameters>,
    /// What is shown.
    pub display: Display,
}

/// Bytes that are not a model file, or values that make none. `tensor` is a tensor's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file is too large.
    #[error("the model file has {found} bytes, more than {MAX_FILE_BYTES}")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// The file ends before its header does.
    #[error("the model file ends within its header")]
    Truncated,
    /// The header is too long.
    #[error("the header has {found} bytes, more than {MAX_HEADER_BYTES}")]
    HeaderTooLarge {
        /// Its bytes.
        found: u64,
    },
    /// The header does not begin with a brace, as safetensors demands.
    #[error("the header does not begin with '{{'")]
    HeaderStart,
    /// The header, or the JSON within it, is not as expected.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The graph is not allowed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A tensor that a layer needs is not there.
    #[error("tensor {tensor:?} is missing")]
    MissingTensor { tensor: String },
    /// A tensor that no layer uses.
    #[error("tensor {tensor:?} belongs to no layer")]
    UnreferencedTensor { tensor: String },
    /// A tensor is of another type.
    #[error("tensor {tensor:?} has dtype {found:?}, expected {expected:?}")]
    Dtype {
        tensor: String,
        /// The type it must have.
        expected: &'static str,
        /// The type it has.
        found: String,
    },
    /// A tensor is of another shape.
    #[error("tensor {tensor:?} has shape {found:?}, expected {expected:?}")]
    TensorShape {
        tensor: String,
        /// The shape it must have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<u64>,
    },
    /// A tensor's offsets are not those of the bytes it needs, or do not follow the tensor before it without a gap.
    #[error("tensor {tensor:?} lies at {found:?} of the data, expected {expected:?}")]
    Offsets {
        tensor: String,
        /// First byte, and the byte after the last, that it must have.
        expected: (u64, u64),
        /// Those that it has.
        found: (u64, u64),
    },
    /// The file does not end where its last tensor does.
    #[error("the tensors end after {expected} bytes of data, the file after {found}")]
    DataLength {
        /// Bytes that the tensors take.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// To be written: the number of entries of [`ModelFile::parameters`] is not that of the layers.
    #[error("there are parameters for {found} layers, the graph has {expected}")]
    LayerCount {
        /// Layers.
        expected: usize,
        /// Entries.
        found: usize,
    },
    /// To be written: a tensor has another number of elements than its layer needs.
    #[error("tensor {tensor:?} has {found} elements, expected {expected}")]
    Length {
        tensor: String,
        /// Elements it must have.
        expected: usize,
        /// Elements it has.
        found: usize,
    },
    /// To be written: people could not be shown the model.
    #[error(transparent)]
    Display(#[from] DisplayError),
}

impl ModelFile {
    /// The file's bytes: one model, one file, each time the same.
    ///
    /// # Errors
    /// If the parts do not fit each other. Whether the model is exact is not asked; [`ModelFile::build`] asks.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        self.check()?;
        let mut tensors = self.tensors();
        tensors.sort_by(|left, right| left.part.rank().cmp(&right.part.rank()).then(left.name.cmp(&right.name)));
        let mut data = Vec::new();
        let mut header = String::from("{");
        let display = self.display.to_json();
        header.push_str(&json_text(METADATA));
        header.push_str(&format!(
            ":{{{}:{},{}:{}}}",
            json_text(DISPLAY),
            json_text(&display),
            json_text(GRAPH),
            json_text(&self.graph.to_json())
        ));
        for tensor in &tensors {
            let start = data.len();
            self.parameters[tensor.layer].write(tensor.part, &mut data);
            let shape = serde_json::to_string(&tensor.shape).expect("a shape is a list of numbers");
            header.push_str(&format!(
                ",{}:{{\"dtype\":\"{}\",\"shape\":{shape},\"data_offsets\":[{start},{}]}}",
                json_text(&tensor.name),
                tensor.part.dtype(),
                data.len()
            ));
        }
        header.push('}');
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        if header.len() > MAX_HEADER_BYTES {
            return Err(FileError::HeaderTooLarge { found: header.len() as u64 });
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&data);
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::TooLarge { found: bytes.len() });
        }
        Ok(bytes)
    }

    /// Checks that a model file can hold a network of these layers and classes, whatever it learns.
    ///
    /// # Errors
    /// What does not fit: the names or number of the classes, or the size.
    pub fn check_fits(graph: &Graph, classes: &[String]) -> Result<(), FileError> {
        let tensors = tensors(graph, true);
        let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.bytes()));
        if bytes > MAX_FILE_BYTES as u64 {
            return Err(FileError::TooLarge { found: usize::try_from(bytes).unwrap_or(usize::MAX) });
        }
        let mut parameters = vec![Parameters::default(); graph.layers().len()];
        for tensor in &tensors {
            parameters[tensor.layer].read(tensor.part, &vec![0; tensor.bytes() as usize]);
        }
        let display = Display { classes: classes.to_vec(), ..Display::numbered(0) };
        Self { graph: graph.clone(), parameters, display }.to_bytes().map(drop)
    }

    /// Reads a model file. Whether the model is exact is not asked. What is shown to people decides nothing: of a display that
    /// cannot be read the reason is the second value, and the model is shown as if it had none.
    ///
    /// # Errors
    /// The first rule of the format that is broken.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Option<DisplayError>), FileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::TooLarge { found: bytes.len() });
        }
        let (length, rest) = bytes.split_first_chunk().ok_or(FileError::Truncated)?;
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES as u64 {
            return Err(FileError::HeaderTooLarge { found: length });
        }
        let (header, data) = rest.split_at_checked(length as usize).ok_or(FileError::Truncated)?;
        if header.first() != Some(&b'{') {
            return Err(FileError::HeaderStart);
        }
        let mut header = json::parse("header", header)?.object("header")?;
        let mut metadata = header.take(METADATA)?.object("header.__metadata__")?;
        let graph = Graph::from_json(&metadata.text(GRAPH)?)?;
        let display = match metadata.take_optional(DISPLAY) {
            Some(text) => Display::from_json(&text.text("header.__metadata__.display")?, graph.logits()),
            None => Ok(Display::numbered(graph.logits())),
        };
        metadata.finish()?;

        let mut parameters = vec![Parameters::default(); graph.layers().len()];
        let mut spans = Vec::new();
        for tensor in tensors(&graph, true) {
            let entry = match header.take_optional(&tensor.name) {
                Some(entry) => entry,
                None if tensor.may_be_missing(&graph) => continue,
                None => return Err(FileError::MissingTensor { tensor: tensor.name }),
            };
            let span = read_entry(&tensor, entry)?;
            spans.push((span, tensor));
        }
        if let Some(name) = header.first() {
            return Err(FileError::UnreferencedTensor { tensor: quote(name) });
        }
        spans.sort_by_key(|(span, _)| *span);
        let mut start = 0u64;
        for (span, tensor) in &spans {
            let expected = (start, start.saturating_add(tensor.bytes()));
            if *span != expected {
                return Err(FileError::Offsets { tensor: tensor.name.clone(), expected, found: *span });
            }
            start = expected.1;
        }
        if start != data.len() as u64 {
            return Err(FileError::DataLength { expected: start, found: data.len() as u64 });
        }
        for ((start, end), tensor) in &spans {
            parameters[tensor.layer].read(tensor.part, &data[*start as usize..*end as usize]);
        }
        let (display, error) = match display {
            Ok(display) => (display, None),
            Err(error) => (Display::numbered(graph.logits()), Some(error)),
        };
        Ok((Self { graph, parameters, display }, error))
    }

    /// The tensors that the file has.
    fn tensors(&self) -> Vec<Tensor> {
        let has_last_scale = self.parameters.last().is_some_and(|last| !last.scale.is_empty());
        tensors(&self.graph, has_last_scale)
    }

    /// Whether the parts fit each other.
    fn check(&self) -> Result<(), FileError> {
        if self.parameters.len() != self.graph.layers().len() {
            return Err(FileError::LayerCount { expected: self.graph.layers().len(), found: self.parameters.len() });
        }
        let mut expected = vec![[0; Part::ALL.len()]; self.parameters.len()];
        for tensor in self.tensors() {
            expected[tensor.layer][tensor.part as usize] = tensor.shape.iter().product();
        }
        for (layer, parameters) in self.parameters.iter().enumerate() {
            for part in Part::ALL {
                let (expected, found) = (expected[layer][part as usize], parameters.length(part));
                if expected != found {
                    let tensor = part.tensor(&self.graph.layers()[layer].name);
                    return Err(FileError::Length { tensor, expected, found });
                }
            }
        }
        Ok(self.display.check(self.graph.logits())?)
    }
}

impl Parameters {
    fn length(&self, part: Part) -> usize {
        match part {
            Part::Scale => self.scale.len(),
            Part::Bias => self.bias.len(),
            Part::Weight => self.weight.len(),
            Part::Table => self.table.len(),
        }
    }

    fn write(&self, part: Part, data: &mut Vec<u8>) {
        match part {
            Part::Scale => data.extend(self.scale.iter().flat_map(|value| value.to_le_bytes())),
            Part::Bias => data.extend(self.bias.iter().flat_map(|value| value.to_le_bytes())),
            Part::Weight => data.extend(self.weight.iter().map(|value| value.cast_unsigned())),
            Part::Table => data.extend(&self.table),
        }
    }

    fn read(&mut self, part: Part, data: &[u8]) {
        match part {
            Part::Scale => self.scale = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Part::Bias => self.bias = data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect(),
            Part::Weight => self.weight = data.iter().map(|byte| byte.cast_signed()).collect(),
            Part::Table => self.table = data.to_vec(),
        }
    }
}

/// One of the tensors of a layer, in the order in which they lie in a written file: the wide ones first, as safetensors
/// writes them, so that each is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Scale,
    Bias,
    Weight,
    Table,
}

impl Part {
    const ALL: [Self; 4] = [Self::Scale, Self::Bias, Self::Weight, Self::Table];

    fn rank(self) -> usize {
        self as usize
    }

    fn dtype(self) -> &'static str {
        match self {
            Self::Scale => "F32",
            Self::Bias => "I32",
            Self::Weight => "I8",
            Self::Table => "U8",
        }
    }

    fn width(self) -> u64 {
        match self {
            Self::Scale | Self::Bias => 4,
            Self::Weight | Self::Table => 1,
        }
    }

    fn tensor(self, layer: &str) -> String {
        let part = match self {
            Self::Scale => "scale",
            Self::Bias => "bias",
            Self::Weight => "weight",
            Self::Table => "table",
        };
        format!("{layer}.{part}")
    }
}

/// A tensor that a graph needs.
struct Tensor {
    layer: usize,
    part: Part,
    name: String,
    shape: Vec<usize>,
}

impl Tensor {
    /// Each tensor has less than 2^27 elements, as the packed weights are bounded.
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.part.width()
    }

    fn may_be_missing(&self, graph: &Graph) -> bool {
        self.part == Part::Scale && graph.is_last(self.layer)
    }
}

/// All tensors of a graph, layer by layer, with or without the one that may be missing.
fn tensors(graph: &Graph, with_last_scale: bool) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for (index, layer) in graph.layers().iter().enumerate() {
        let mut add =
            |part: Part, shape| tensors.push(Tensor { layer: index, part, name: part.tensor(&layer.name), shape });
        match layer.operation {
            Operation::Conv { channels, .. } | Operation::Linear { channels, .. } => {
                add(Part::Weight, graph.weight_shape(index).expect("these kinds have weights"));
                add(Part::Bias, vec![channels]);
                if with_last_scale || !graph.is_last(index) {
                    add(Part::Scale, vec![channels]);
                }
            }
            Operation::Multiply { .. } | Operation::AveragePool { .. } => add(Part::Scale, vec![1]),
            Operation::Lookup { .. } => add(Part::Table, vec![256]),
            Operation::Add { .. } | Operation::MaxPool { .. } | Operation::Concat => {}
        }
    }
    tensors
}

/// Reads a tensor's entry in the header: its first byte in the data, and the byte after its last.
fn read_entry(tensor: &Tensor, entry: Json) -> Result<(u64, u64), FileError> {
    let at = format!("header.{}", tensor.name);
    let mut fields = entry.object(&at)?;
    let dtype = fields.text("dtype")?;
    if dtype != tensor.part.dtype() {
        return Err(FileError::Dtype {
            tensor: tensor.name.clone(),
            expected: tensor.part.dtype(),
            found: quote(&dtype),
        });
    }
    let shape = fields.integers("shape")?;
    if !shape.iter().copied().eq(tensor.shape.iter().map(|size| *size as u64)) {
        return Err(FileError::TensorShape {
            tensor: tensor.name.clone(),
            expected: tensor.shape.clone(),
            found: shape.into_iter().take(8).collect(),
        });
    }
    let at = fields.place("data_offsets");
    let offsets = fields.integers("data_offsets")?;
    fields.finish()?;
    match offsets[..] {
        [start, end] => Ok((start, end)),
        _ => Err(JsonError::Type { at, expected: "two whole numbers", found: "a list of another length" }.into()),
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("every string is a JSON string")
}
