//! What `ocelli model export` is asked for. `ocelli` writes its own files, and has `ocelli-train` write ONNX.

use std::path::PathBuf;

use clap::ValueEnum;
use ocelli_model::Model;
use serde_json::json;

use crate::error::CommandError;
use crate::output::Printer;
use crate::output_file::write_result;

/// Write a model's file, or the model as an ONNX network with the same logits, bit for bit
///
/// An ONNX file reads `pixels`, bytes of (pictures, channels, rows, columns), and gives `logits`, whole numbers; ONNX Runtime
/// computes the same on any x86 and ARM64, so that it checks what nodes answer.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The model: a name that is built in, or a model file
    #[arg(value_name = "NAME|FILE")]
    pub model: String,

    /// The file to write; a link is written through, and so are devices and pipes, such as /dev/stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// What to write [default: onnx for a file that ends in .onnx, else safetensors]
    #[arg(long)]
    format: Option<FileFormat>,

    /// The type of an ONNX file's weights
    #[arg(long, default_value = "i8")]
    pub weights: WeightType,
}

/// What a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// The file that nodes run
    Safetensors,
    /// ONNX, opset 17
    Onnx,
}

/// In what type an ONNX file has its weights. Of the first two the logits do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightType {
    /// With a zero point of 128
    U8,
    /// Where activations are at most 127, which is twice as fast on x86 without VNNI, and u8 elsewhere
    I8,
    /// In all layers, which is exact only where products are added in 32 bits: on x86 with VNNI and on ARM64
    I8Everywhere,
}

impl ExportArgs {
    /// What to write, as named or by the file's ending.
    pub fn format(&self) -> FileFormat {
        let by_ending = || match self.output.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("onnx") => FileFormat::Onnx,
            _ => FileFormat::Safetensors,
        };
        self.format.unwrap_or_else(by_ending)
    }

    /// Writes the bytes that a model became, and says so.
    ///
    /// # Errors
    /// For a file that cannot be written.
    pub fn write(&self, model: &Model, bytes: &[u8], output: &mut Printer) -> Result<(), CommandError> {
        output.leave_stdout_to(&self.output);
        write_result(&self.output, bytes)?;
        let (file, id) = (self.output.display().to_string(), model.id().to_string());
        if output.is_json() {
            return output.json(&json!({ "file": file, "id": id, "bytes": bytes.len() }));
        }
        output.line(format_args!("{file}: {} bytes, model {id}", bytes.len()))
    }
}
