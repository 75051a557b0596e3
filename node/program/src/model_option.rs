//! `--model NAME|FILE`: a model that is built in, or one of a file.

use std::path::Path;

use ocelli_model::file::MAX_FILE_BYTES;
use ocelli_model::{Model, zoo};

use crate::error::{CommandError, Explain as _};
use crate::input_file::read_bounded;

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "cifar10-cnn";

/// Which model.
#[derive(Debug, clap::Args)]
pub struct ModelOption {
    /// The model: a name that is built in, or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    pub model: String,
}

/// Loads a model by its name, or from its file.
///
/// # Errors
/// For a name that is neither, with those that are known; for a file that cannot be read or is no model.
pub fn load(name: &str) -> Result<Model, CommandError> {
    if let Some(model) = zoo::get(name) {
        return Ok(model);
    }
    let path = Path::new(name);
    if !path.exists() && !name.contains(['/', '\\', '.']) {
        return Err(CommandError::failed(format!(
            "found no model `{name}`, expected {} or a model file",
            zoo::names().join(", ")
        ))
        .with_hint("`ocelli model list` shows the models that are built in"));
    }
    load_file(name)
}

/// Loads a model from its file.
///
/// # Errors
/// For one that cannot be read or is no model.
pub fn load_file(path: &str) -> Result<Model, CommandError> {
    let bytes =
        read_bounded(Path::new(path), MAX_FILE_BYTES).context(|| format!("cannot read the model file {path}"))?;
    Model::from_bytes(&bytes)
        .context(|| format!("{path} is not a model that nodes run"))
        .hint(|| "give a file that `ocelli model quantize` or `ocelli model export` wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_names_the_known_ones() {
        let text = load("resnet-1000").unwrap_err().to_string();
        assert!(text.contains("resnet-1000") && text.contains("cifar10-cnn") && text.contains("hint"), "{text}");
        let text = load("./missing.safetensors").unwrap_err().to_string();
        assert!(text.contains("cannot read the model file ./missing.safetensors"), "{text}");
    }
}
