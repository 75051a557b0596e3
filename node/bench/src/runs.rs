//! What is measured several times on the network `local`, and on which device.

use ocelli_consensus::Network;
use ocelli_model::{Backend, Model};
use ocelli_node::node::models;
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::CommandError;
use serde::Serialize;

/// How often, and on what.
#[derive(Debug, clap::Args)]
pub struct Runs {
    /// Validate so many times, and report the run of median time
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,

    #[command(flatten)]
    device: DeviceOption,
}

/// The network `local`, whose models run on a device.
pub struct Local {
    pub network: Network,
    pub models: Vec<Model>,
    pub backend: Box<dyn Backend>,
}

/// Part of a report.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub device: String,
    pub threads: usize,
    pub runs: u16,
}

impl Runs {
    /// The network, and its models on the device.
    ///
    /// # Errors
    /// For a device that cannot be used.
    pub fn local(&self) -> Result<Local, CommandError> {
        let network = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
        let models = models(&network)?;
        let backend = self.open(&models)?;
        Ok(Local { network, models, backend })
    }

    /// The device once more, which remembers nothing of what it ran.
    ///
    /// # Errors
    /// For a device that cannot be used.
    pub fn open(&self, models: &[Model]) -> Result<Box<dyn Backend>, CommandError> {
        self.device.open(models)
    }

    /// What it was measured on.
    pub fn machine(&self, backend: &dyn Backend) -> Machine {
        Machine { device: backend.name(), threads: backend.threads(), runs: self.runs }
    }
}

impl Local {
    /// The model that is asked where any would do.
    pub fn model(&self) -> Result<&Model, CommandError> {
        self.models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))
    }
}
