//! `ocelli model export`.

use std::path::PathBuf;

use ocelli_program::model_option::load;
use ocelli_program::output_file::write_result;
use serde_json::json;

use super::super::error::CommandError;
use super::super::output::Output;

/// Write the file of a built-in model
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: a name that is built in, or a model file
    #[arg(value_name = "NAME|FILE")]
    model: String,

    /// The file to write; a link is written through, and so are devices and pipes, such as /dev/stdout
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// For an unknown model, and a file that cannot be written.
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let model = load(&args.model)?;
    output.leave_stdout_to(&args.output);
    write_result(&args.output, model.bytes())?;
    let (file, id) = (args.output.display().to_string(), model.id().to_string());
    if output.is_json() {
        return output.json(&json!({ "file": file, "id": id, "bytes": model.bytes().len() }));
    }
    output.line(format_args!("{file}: {} bytes, model {id}", model.bytes().len()))
}
