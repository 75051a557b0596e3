//! `ocelli model list`.

use ocelli_model::zoo;
use serde_json::json;

use super::super::error::CommandError;
use super::super::output::Output;

/// List the models that are built in
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(_: &Args, output: &mut Output) -> Result<(), CommandError> {
    let models: Vec<_> =
        zoo::names().into_iter().filter_map(|name| zoo::get(name).map(|model| (name, model))).collect();
    if output.is_json() {
        let models: Vec<_> = models
            .iter()
            .map(|(name, model)| {
                json!({
                    "name": name,
                    "id": model.id().to_string(),
                    "input": model.input(),
                    "classes": model.classes(),
                    "parameters": model.parameter_count(),
                    "cost": model.cost(),
                    "bytes": model.bytes().len(),
                })
            })
            .collect();
        return output.json(&models);
    }
    for (name, model) in &models {
        output.line(format_args!(
            "{name}  input {}, {} classes, {} parameters, {} bytes, id {}",
            model.input(),
            model.logits(),
            model.parameter_count(),
            model.bytes().len(),
            model.id()
        ))?;
    }
    Ok(())
}
