//! From what a task carries to what its model sees.

use std::borrow::Cow;

use ocelli_consensus::transaction::Form;
use ocelli_picture::{Input, Refusal, Sides};

use super::Content;

/// Why an attachment is no picture for its task: rule *Picture* of `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PictureFault {
    /// The file is none that the network takes.
    #[error("the JPEG is refused: {0}")]
    Refused(Refusal),
    /// The task names other sides.
    #[error("the JPEG has {} columns and {} rows, the task says {width} and {height}", found.columns, found.rows)]
    Sides {
        /// The file's.
        found: Sides,
        /// Columns, as the task has them.
        width: u16,
        /// Rows, as the task has them.
        height: u16,
    },
    /// There are more or fewer pixels than the model takes.
    #[error("the picture has {found} bytes of pixels, the model takes {expected}")]
    Length {
        /// Bytes of the attachment.
        found: usize,
        /// Bytes that the model takes.
        expected: usize,
    },
}

/// Whether an attachment is a picture at all, whatever the model: a JPEG is decoded for that.
///
/// # Errors
/// What is wrong with it.
pub fn check_picture(form: Form, bytes: &[u8]) -> Result<(), PictureFault> {
    match form {
        Form::Pixels => Ok(()),
        Form::Jpeg { width, height } => {
            check_sides(bytes, width, height)?;
            ocelli_picture::check(bytes).map(drop).map_err(PictureFault::Refused)
        }
    }
}

/// What a model sees: u8 in C×H×W order.
///
/// # Errors
/// If the attachment is no picture for the model.
pub(super) fn pixels(form: Form, content: &Content, input: Input) -> Result<Cow<'_, [u8]>, PictureFault> {
    let as_they_are = |pixels| {
        let (found, expected) = (<[u8]>::len(pixels), input.channels * input.height * input.width);
        if found == expected { Ok(Cow::Borrowed(pixels)) } else { Err(PictureFault::Length { found, expected }) }
    };
    match (content, form) {
        (Content::Seen(pixels), _) => as_they_are(pixels),
        (Content::Attached(pixels), Form::Pixels) => as_they_are(pixels),
        (Content::Attached(bytes), Form::Jpeg { width, height }) => {
            check_sides(bytes, width, height)?;
            ocelli_picture::pixels(bytes, input).map(Cow::Owned).map_err(PictureFault::Refused)
        }
    }
}

/// Before anything is decoded: other sides may be far larger.
fn check_sides(bytes: &[u8], width: u16, height: u16) -> Result<(), PictureFault> {
    let found = ocelli_picture::sides(bytes).map_err(PictureFault::Refused)?;
    if found == (Sides { columns: width, rows: height }) {
        Ok(())
    } else {
        Err(PictureFault::Sides { found, width, height })
    }
}
