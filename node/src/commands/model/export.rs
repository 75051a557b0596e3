//! `ocelli model export`.

use ocelli_program::model_export::{ExportArgs, FileFormat};
use ocelli_program::model_option::load;

use super::super::error::CommandError;
use super::super::output::Printer;
use super::super::program::Program;

/// Runs the command.
///
/// # Errors
/// For an unknown model, a file that cannot be written, and for ONNX where `ocelli-train` is not there.
pub fn run(args: &ExportArgs, output: &mut Printer) -> Result<(), CommandError> {
    match args.format() {
        FileFormat::Safetensors => {
            let model = load(&args.model)?;
            args.write(&model, model.bytes(), output)
        }
        FileFormat::Onnx => match Program::Train.start()? {},
    }
}
