//! From files to what a model sees, beside the threads that serve, within a bound of memory.

use std::sync::Arc;

use axum::body::Bytes;
use ocelli_model::picture::{self, PictureError};
use ocelli_model::{Attachment, Model};
use tokio::sync::Semaphore;

use super::problem::{Kind, Problem};
use crate::json::PICTURE_HINT;

/// Memory for pictures that are being decoded, in MiB: the largest takes most of it.
const MEMORY_MIB: u32 = 2_048;
/// Bytes for each of a picture's pixels: decoded with transparency, cropped, and laid on white.
const PIXEL_BYTES: u64 = 12;
/// A small picture for a small model is decoded by the thread that serves, which takes less than to wake another one: of so many
/// pixels at most, as the file says and as the model takes,
const SMALL_PIXELS: u64 = 64 * 64;
/// and in a file of so many bytes.
const SMALL_BYTES: usize = 16 << 10;
/// Requests whose pictures are decoded, or wait for their model, at a time.
const REQUESTS: usize = 512;

/// A picture as somebody sends it.
pub(super) struct File {
    /// Its name, if they say it.
    pub(super) name: Option<String>,
    pub(super) bytes: Bytes,
}

/// The room for requests about pictures.
pub(super) struct Pictures {
    memory: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MEMORY_MIB as usize)), requests: Arc::new(Semaphore::new(REQUESTS)) }
    }
}

impl Pictures {
    /// A place for a request, until it is dropped.
    pub(super) fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| Problem::busy(format!("{REQUESTS} requests about pictures are being answered")))
    }

    /// What the model sees of each file. Of several it is said of all that cannot be used.
    pub(super) async fn attach(&self, files: &[File], model: &Model) -> Result<Vec<Attachment>, Problem> {
        let attachments = files.iter().map(|file| self.attach_one(file.bytes.clone(), model.clone()));
        let attachments = futures::future::join_all(attachments).await;
        let failed = attachments.iter().filter(|attachment| attachment.is_err()).count();
        if failed == 0 || files.len() == 1 {
            return attachments.into_iter().collect();
        }
        let said = |(file, attachment): (&File, &Result<Attachment, Problem>)| {
            let problem = attachment.as_ref().err()?;
            let name = file.name.as_deref().unwrap_or("a picture without a name");
            Some(format!("{name}: {}", problem.detail()))
        };
        let causes = files.iter().zip(&attachments).filter_map(said).collect();
        let kinds = attachments.iter().filter_map(|attachment| attachment.as_ref().err()).map(Problem::kind);
        let kind = kinds.reduce(|one, other| if one == other { one } else { Kind::Content }).unwrap_or(Kind::Content);
        Err(Problem::new(kind, format!("{failed} of {} pictures cannot be used", files.len()))
            .with_causes(causes)
            .with_hint(PICTURE_HINT))
    }

    async fn attach_one(&self, file: Bytes, model: Model) -> Result<Attachment, Problem> {
        let failed = || Problem::new(Kind::Node, "the picture was not decoded: the node is about to stop");
        let (columns, rows) = picture::claimed_sides(&file).unwrap_or_default();
        let pixels = u64::from(columns) * u64::from(rows);
        if pixels.max(model.input().plane() as u64) <= SMALL_PIXELS && file.len() <= SMALL_BYTES {
            return attach(&file, &model);
        }
        let mebibytes = pixels.saturating_mul(PIXEL_BYTES) >> 20;
        let mebibytes = u32::try_from(mebibytes).unwrap_or(u32::MAX).clamp(1, MEMORY_MIB);
        let memory = Arc::clone(&self.memory).acquire_many_owned(mebibytes).await.map_err(|_| failed())?;
        let attached = tokio::task::spawn_blocking(move || {
            let _memory = memory;
            attach(&file, &model)
        });
        attached.await.map_err(|_| failed())?
    }
}

fn attach(file: &[u8], model: &Model) -> Result<Attachment, Problem> {
    Attachment::from_file(file, model.graph().input().into()).map_err(|error| of(&error))
}

/// An error of a picture, as the command line says it.
fn of(error: &PictureError) -> Problem {
    let kind = match error {
        PictureError::FileTooLarge { .. } | PictureError::TooLarge { .. } | PictureError::Memory => Kind::TooLarge,
        PictureError::Empty => Kind::Request,
        PictureError::NotAPicture | PictureError::Format { .. } => Kind::Format,
        _ => Kind::Content,
    };
    Problem::of(kind, error).with_hint(PICTURE_HINT)
}
