//! `ocelli model export`.

use ocelli_program::error::CommandError;
use ocelli_program::model_export::{ExportArgs, FileFormat};
use ocelli_program::model_option::load;
use ocelli_program::output::Printer;

use crate::export::to_onnx;

/// Runs the command.
///
/// # Errors
/// For an unknown model, and a file that cannot be written.
pub fn run(args: &ExportArgs, output: &mut Printer) -> Result<(), CommandError> {
    let model = load(&args.model)?;
    match args.format() {
        FileFormat::Safetensors => args.write(&model, model.bytes(), output),
        FileFormat::Onnx => args.write(&model, &to_onnx(&model, args.weights), output),
    }
}
