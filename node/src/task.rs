//! From what a picture became to what is signed for it, or run for nothing: free answers are about the same bytes as paid ones.

use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Amount, AttachmentHash};
use ocelli_model::{Attachment, Model, attachment};

use crate::inference::{Task, model_id};

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

/// What is run for a picture.
pub fn run(model: &Model, attachment: &Attachment) -> Task {
    Task {
        model: model_id(model),
        attachment: AttachmentHash::of(&attachment.bytes),
        form: form(attachment.form),
        bytes: attachment.bytes.as_slice().into(),
    }
}

fn form(form: attachment::Form) -> Form {
    match form {
        attachment::Form::Pixels => Form::Pixels,
        attachment::Form::Jpeg(sides) => Form::Jpeg { width: sides.columns, height: sides.rows },
    }
}
