//! Bodies are read within bounds: of one, of all together, and of time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::problem::{Kind, Problem};

/// The most bytes of a body.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;
/// The most bytes of all bodies that are being read or worked on.
const ALL_BODIES_BYTES: usize = 256 << 20;
/// Bytes are counted in units of so many.
const UNIT: usize = 1 << 10;
/// How long a client may send nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a body may take in all, and a second more for as many bytes as a slow line carries in one.
const WHOLE: Duration = Duration::from_secs(20);
const SLOWEST_BYTES_PER_SECOND: usize = 64 << 10;

/// The room for bodies.
pub(super) struct Bodies {
    room: Arc<Semaphore>,
}

/// A body, and the room that it takes.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    /// Given back when whoever works on the body is done.
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ALL_BODIES_BYTES / UNIT)) }
    }
}

impl Bodies {
    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<Held, Problem> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(Problem::new(Kind::Format, format!("found a body compressed by {encoding:?}"))
                .with_hint("send it as it is: pictures are compressed already"));
        }
        let too_large =
            |found: String| Problem::new(Kind::TooLarge, format!("the body has {found} bytes, more than {limit}"));
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = length.filter(|length| *length > limit) {
            return Err(too_large(length.to_string()));
        }
        let mut room = None;
        // What is announced has its room at once, so that no two wait for each other's.
        self.enlarge(&mut room, length.unwrap_or(0))?;
        let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(1 << 20));
        let (begun, mut frames) = (Instant::now(), body.into_data_stream());
        loop {
            let seconds = (bytes.len() / SLOWEST_BYTES_PER_SECOND) as u64;
            let end = begun + WHOLE + Duration::from_secs(seconds);
            let patience = SILENCE.min(end.saturating_duration_since(Instant::now()));
            let frame = match timeout(patience, frames.next()).await {
                Ok(None) => return Ok(Held { bytes: bytes.into(), _room: room }),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Problem::of(Kind::Request, &error)),
                Err(_) => {
                    return Err(Problem::new(
                        Kind::Slow,
                        format!("the body came too slowly: {} bytes in {:.0?}", bytes.len(), begun.elapsed()),
                    ));
                }
            };
            if bytes.len() + frame.len() > limit {
                return Err(too_large(format!("{} or more", bytes.len() + frame.len())));
            }
            self.enlarge(&mut room, bytes.len() + frame.len())?;
            bytes.extend_from_slice(&frame);
        }
    }

    /// Has room be for so many bytes.
    fn enlarge(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Problem> {
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(UNIT).saturating_sub(has)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.room).try_acquire_many_owned(more).map_err(|_| {
            Problem::busy(format!(
                "requests of {} MiB are being answered, and there is no room for more",
                ALL_BODIES_BYTES >> 20
            ))
        })?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}
