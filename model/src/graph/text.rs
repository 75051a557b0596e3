//! Graphs as text: the JSON of a model file, and TOML for people.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{
    Finish, Graph, GraphError, INPUT, Input, Layer, MAX_CROP, MAX_DIMENSION, MAX_LAYERS, MAX_MULTIPLIER, MAX_SHIFT,
    Operation, Shape, VERSION, Window, within,
};
use crate::json::{self, Fields, Json, JsonError, quote};

impl Graph {
    /// Reads a graph from its JSON. Keys come in any order, each once; none may be missing or unknown; every number is a whole
    /// number.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_json(text: &str) -> Result<Self, GraphError> {
        read(json::parse("graph", text.as_bytes())?)
    }

    /// Reads a graph as people write it: the JSON of [`Graph::from_json`], or the same keys as TOML, where every layer is a
    /// `[[layers]]` and what is usual may be left out (`docs/models.md`). Model files have JSON only.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_text(text: &str) -> Result<Self, GraphError> {
        if text.trim_start().starts_with('{') {
            return Self::from_json(text);
        }
        let value = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            GraphError::Toml { line: before.matches('\n').count() + 1, message: quote(error.message()) }
        })?;
        read(with_defaults(value))
    }

    /// The graph as JSON without white space, keys in the order of the format's description: one graph, one text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a graph holds only numbers and names, which JSON can hold")
    }
}

fn read(value: Json) -> Result<Graph, GraphError> {
    let mut fields = value.object("graph")?;
    let version = fields.integer("version")?;
    if version != VERSION {
        return Err(GraphError::Version { found: version });
    }
    let input = read_input(fields.take("input")?)?;
    let list = fields.take("layers")?.list("graph.layers")?;
    fields.finish()?;
    if list.len() > MAX_LAYERS {
        return Err(GraphError::TooManyLayers { found: list.len() });
    }
    let layers =
        list.into_iter().enumerate().map(|(index, value)| read_layer(index, value)).collect::<Result<_, _>>()?;
    Graph::new(input, layers)
}

fn read_input(value: Json) -> Result<Input, GraphError> {
    let mut fields = value.object("graph.input")?;
    let mut size = |key| within(INPUT, key, fields.integer(key)?, 1, MAX_DIMENSION);
    let shape = Shape { channels: size("channels")?, height: size("height")?, width: size("width")? };
    let zero_points = fields.integers("zero_points")?;
    let zero_points =
        zero_points.into_iter().map(|number| byte(INPUT, "zero_points", number)).collect::<Result<_, _>>()?;
    let crop = within(INPUT, "crop", fields.integer("crop")?, 1, MAX_CROP.into())? as u16;
    fields.finish()?;
    Ok(Input { shape, zero_points, crop })
}

fn read_layer(index: usize, value: Json) -> Result<Layer, GraphError> {
    let mut fields = value.object(&format!("graph.layers[{index}]"))?;
    let name = fields.text("name")?;
    let kind = fields.text("kind")?;
    let at = fields.place("from");
    let from = fields.take("from")?.list(&at)?.into_iter().map(|from| from.text(&at)).collect::<Result<_, _>>()?;
    let mut reader = Reader { at: format!("layer {:?}", quote(&name)), fields };
    let operation = match kind.as_str() {
        "conv" => Operation::Conv {
            channels: reader.number("channels", 1, MAX_DIMENSION)?,
            groups: reader.number("groups", 1, MAX_DIMENSION)?,
            window: reader.window()?,
            finish: reader.finish()?,
        },
        "linear" => Operation::Linear {
            channels: reader.number("channels", 1, MAX_DIMENSION)?,
            finish: if reader.has_finish() { Some(reader.finish()?) } else { None },
        },
        "add" => Operation::Add {
            multipliers: reader.numbers("multipliers", 1, MAX_MULTIPLIER as usize)?.map(|number| number as u32),
            shift: reader.number("shift", 1, MAX_SHIFT.into())? as u8,
            finish: reader.finish()?,
        },
        "multiply" => Operation::Multiply { finish: reader.finish()? },
        "average_pool" => Operation::AveragePool { window: reader.window()?, finish: reader.finish()? },
        "max_pool" => Operation::MaxPool { window: reader.window()? },
        "concat" => Operation::Concat,
        "lookup" => Operation::Lookup { zero_point: reader.byte("zero_point")? },
        _ => return Err(GraphError::Kind { layer: quote(&name), kind: quote(&kind) }),
    };
    reader.fields.finish()?;
    Ok(Layer { name, from, operation })
}

/// Takes the numbers of a layer.
struct Reader {
    /// The layer in messages.
    at: String,
    fields: Fields,
}

impl Reader {
    fn number(&mut self, key: &'static str, low: usize, high: usize) -> Result<usize, GraphError> {
        within(&self.at, key, self.fields.integer(key)?, low, high)
    }

    fn byte(&mut self, key: &'static str) -> Result<u8, GraphError> {
        byte(&self.at, key, self.fields.integer(key)?)
    }

    fn numbers<const N: usize>(
        &mut self,
        key: &'static str,
        low: usize,
        high: usize,
    ) -> Result<[usize; N], GraphError> {
        let numbers = self.fields.integers(key)?;
        let numbers: Vec<usize> =
            numbers.into_iter().map(|number| within(&self.at, key, number, low, high)).collect::<Result<_, _>>()?;
        let expected = if N == 2 { "two whole numbers" } else { "four whole numbers" };
        let error = |_| JsonError::Type { at: self.fields.place(key), expected, found: "a list of another length" };
        Ok(numbers.try_into().map_err(error)?)
    }

    fn window(&mut self) -> Result<Window, GraphError> {
        let kernel = self.numbers("kernel", 1, MAX_DIMENSION)?;
        let stride = self.numbers("stride", 1, MAX_DIMENSION)?;
        // Whether it is below the kernel is asked with the rest.
        let padding = self.numbers("padding", 0, MAX_DIMENSION)?;
        Ok(Window { kernel, stride, padding })
    }

    fn has_finish(&self) -> bool {
        ["zero_point", "low", "high"].into_iter().any(|key| self.fields.has(key))
    }

    fn finish(&mut self) -> Result<Finish, GraphError> {
        Ok(Finish { zero_point: self.byte("zero_point")?, low: self.byte("low")?, high: self.byte("high")? })
    }
}

fn byte(at: &str, key: &'static str, number: u64) -> Result<u8, GraphError> {
    within(at, key, number, 0, u8::MAX.into()).map(|number| number as u8)
}

/// Fills in what people leave out: a layer reads the one before it, the values of its output are those after a ReLU in 7 bits,
/// and a single number for a kernel, stride or padding stands for all directions. What is no layer stays as it is and is refused
/// later.
fn with_defaults(graph: Json) -> Json {
    let Json::Object(mut entries) = graph else { return graph };
    let whole = |number: usize| Json::Integer(number as u64);
    let mut channels = None;
    if let Some(Json::Object(input)) = entry(&mut entries, "input") {
        if let Some(Json::Integer(found)) = entry(input, "channels") {
            channels = usize::try_from(*found).ok().filter(|found| *found <= MAX_DIMENSION);
        }
        if let Some(channels) = channels {
            default(input, "zero_points", || Json::List(vec![Json::Integer(0); channels]));
        }
        default(input, "crop", || whole(MAX_CROP.into()));
    }
    let Some(Json::List(layers)) = entry(&mut entries, "layers") else { return Json::Object(entries) };
    let (count, mut before) = (layers.len(), Json::Text(INPUT.into()));
    for (index, layer) in layers.iter_mut().enumerate() {
        let Json::Object(layer) = layer else { continue };
        let Some(Json::Text(kind)) = entry(layer, "kind").cloned() else { continue };
        default(layer, "from", || Json::List(vec![before.clone()]));
        before = entry(layer, "name").cloned().unwrap_or(before);
        if kind == "conv" {
            default(layer, "groups", || whole(1));
        }
        if matches!(kind.as_str(), "conv" | "average_pool" | "max_pool") {
            for (key, number, usual) in [("kernel", 2, None), ("stride", 2, Some(1)), ("padding", 4, Some(0))] {
                if let Some(usual) = usual {
                    default(layer, key, || whole(usual));
                }
                if let Some(single @ Json::Integer(_)) = entry(layer, key) {
                    *single = Json::List(vec![single.clone(); number]);
                }
            }
        }
        if kind == "add" {
            default(layer, "multipliers", || Json::List(vec![whole(1 << 20), whole(1 << 20)]));
            default(layer, "shift", || whole(20));
        }
        let is_last = index + 1 == count;
        if matches!(kind.as_str(), "conv" | "add" | "multiply" | "average_pool") || kind == "linear" && !is_last {
            default(layer, "zero_point", || whole(Finish::RELU.zero_point.into()));
            default(layer, "low", || whole(Finish::RELU.low.into()));
            default(layer, "high", || whole(Finish::RELU.high.into()));
        }
    }
    Json::Object(entries)
}

fn entry<'a>(entries: &'a mut [(String, Json)], key: &str) -> Option<&'a mut Json> {
    entries.iter_mut().find(|(found, _)| found == key).map(|(_, value)| value)
}

fn default(entries: &mut Vec<(String, Json)>, key: &str, value: impl FnOnce() -> Json) {
    if entry(entries, key).is_none() {
        entries.push((key.into(), value()));
    }
}

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &VERSION)?;
        map.serialize_entry("input", &self.input)?;
        map.serialize_entry("layers", &self.layers)?;
        map.end()
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("channels", &self.shape.channels)?;
        map.serialize_entry("height", &self.shape.height)?;
        map.serialize_entry("width", &self.shape.width)?;
        map.serialize_entry("zero_points", &self.zero_points)?;
        map.serialize_entry("crop", &self.crop)?;
        map.end()
    }
}

impl Serialize for Layer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("kind", self.operation.kind())?;
        map.serialize_entry("from", &self.from)?;
        if let Operation::Conv { channels, .. } | Operation::Linear { channels, .. } = self.operation {
            map.serialize_entry("channels", &channels)?;
        }
        if let Operation::Conv { groups, .. } = self.operation {
            map.serialize_entry("groups", &groups)?;
        }
        if let Some(Window { kernel, stride, padding }) = self.operation.window() {
            map.serialize_entry("kernel", &kernel)?;
            map.serialize_entry("stride", &stride)?;
            map.serialize_entry("padding", &padding)?;
        }
        if let Operation::Add { multipliers, shift, .. } = self.operation {
            map.serialize_entry("multipliers", &multipliers)?;
            map.serialize_entry("shift", &shift)?;
        }
        if let Operation::Lookup { zero_point } = self.operation {
            map.serialize_entry("zero_point", &zero_point)?;
        }
        if let Some(Finish { zero_point, low, high }) = self.operation.finish() {
            map.serialize_entry("zero_point", &zero_point)?;
            map.serialize_entry("low", &low)?;
            map.serialize_entry("high", &high)?;
        }
        map.end()
    }
}
