//! Free answers: pictures wait for the device after all that is checked or paid for.

use std::sync::Arc;
use std::time::Duration;

use ocelli_model::Model;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Api;
use super::problem::{Kind, Problem};
use crate::inference::{InferenceError, PictureFault, Task};

/// How long a free answer is waited for: while blocks and paid tasks take all of the device there is none.
const PATIENCE: Duration = Duration::from_secs(60);

impl Api {
    /// The logits of each task of a model.
    pub(super) async fn run(&self, model: &Model, tasks: Vec<Task>) -> Result<Vec<Arc<[i32]>>, Problem> {
        let (sender, answer) = oneshot::channel();
        // Whoever asked may have gone.
        self.figures.inference.run_free(model, tasks, move |result| drop(sender.send(result)));
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(logits))) => {
                let logits = logits.into_iter().collect::<Result<_, PictureFault>>();
                logits.map_err(|fault| Problem::of(Kind::Content, &fault))
            }
            Ok(Ok(Err(error))) => Err(of(&error)),
            Ok(Err(_)) => Err(of(&InferenceError::Stopped)),
            Err(_) => Err(Problem::busy(format!(
                "no answer in {} s: blocks and paid tasks go before free answers",
                PATIENCE.as_secs()
            ))),
        }
    }
}

fn of(error: &InferenceError) -> Problem {
    match error {
        InferenceError::Busy { .. } => Problem::busy(error.to_string()),
        _ => Problem::of(Kind::Node, error),
    }
}
