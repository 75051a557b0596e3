//! What consensus knows of models: that they answer.

use crate::hash::ModelId;

/// Runs models. The same model and pixels give the same logits on every machine: that makes an answer a rule.
pub trait Inference {
    /// Why a model could not be run here; never that an answer is wrong.
    type Error;

    /// The logits of each image, in order. An image is u8 in C×H×W order, exactly the model's input shape.
    ///
    /// # Errors
    /// When this node cannot run the model at all.
    fn logits(&self, model: ModelId, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, Self::Error>;
}
