//! `ocelli model fetch`.

use std::path::PathBuf;

use ocelli_program::output_file::write_result;
use serde_json::json;

use super::super::error::CommandError;
use super::super::evidence;
use super::super::network_model::{nobody_has, published};
use super::super::output::Printer;
use super::super::peer_option::PeerOption;
use super::super::submit::Progress;

/// Get the file of a published model from the network, checked by its id
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: its id, the first eight digits of it or more, or its author's name for it
    #[arg(value_name = "ID|NAME")]
    model: String,

    /// The file to write; a link is written through, and so are devices and pipes, such as /dev/stdout
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    peer: PeerOption,
}

/// Runs the command.
///
/// # Errors
/// For an unknown model, nodes that do not give the file, and a file that cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let name = client.network().parameters.name.clone();
    let model = published(&mut client, &args.model)?.ok_or_else(|| {
        CommandError::failed(format!("network {name} has no model {}", args.model))
            .with_hint("`ocelli model list --network` lists the models that it has")
    })?;
    let progress = Progress::start(model.record.facts.size as usize);
    progress.say("bytes");
    let file = client.model_file(model.id, |bytes| progress.set(bytes));
    progress.finish();
    evidence::warn_of_left(&client);
    let file = file?.ok_or_else(|| nobody_has(&model.id))?;
    output.leave_stdout_to(&args.output);
    write_result(&args.output, &file)?;
    let path = args.output.display().to_string();
    if output.is_json() {
        return output.json(&json!({ "file": path, "id": model.id, "bytes": file.len() }));
    }
    output.line(format_args!("{path}: {} bytes, model {}", file.len(), model.id))
}
