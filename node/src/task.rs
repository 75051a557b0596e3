//! From what a picture became to what is signed for it.

use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Amount, AttachmentHash};
use ocelli_model::{Attachment, Model, attachment};

use crate::inference::model_id;

/// What a task of a picture does, where the model's author gets this royalty.
pub fn classify(model: &Model, royalty: Amount, attachment: &Attachment) -> Action {
    Action::Classify {
        model: model_id(model),
        picture: AttachmentHash::of(&attachment.bytes),
        // At most MAX_ATTACHMENT_BYTES.
        bytes: attachment.bytes.len() as u32,
        royalty,
        form: form(attachment.form),
    }
}

/// How it becomes the model's input.
pub fn form(form: attachment::Form) -> Form {
    match form {
        attachment::Form::Pixels => Form::Pixels,
        attachment::Form::Jpeg(sides) => Form::Jpeg { width: sides.columns, height: sides.rows },
    }
}
