//! Bodies are read within bounds: of one, of all together, and of time.
//!
//! Room is taken by what has come, never by what is announced. Where there is none left, bodies that are still coming give way to
//! smaller ones: so whoever sends much, or holds much and sends no more, takes nothing from those who send little.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::connections::Client;
use super::problem::{Kind, Problem};
use super::timeouts::Timeouts;

/// The most bytes of a body.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;
/// The most bytes of all bodies that are coming or worked on. With what is made of them (the parts of a form, the tensors of a JSON),
/// which is no more, and one that is moved while it grows, all of them take 576 MiB at most. Beside that each connection has at most
/// [`HEAD_BYTES`](super::server::HEAD_BYTES) of what was read and as much of what is to be written: 256 MiB for all.
const ALL_BODIES_BYTES: usize = 256 << 20;
/// The least that a body takes.
const MIN_BYTES: usize = 1 << 10;

/// The room for bodies.
pub(super) struct Bodies {
    room: Arc<Mutex<Room>>,
    timeouts: Timeouts,
}

/// What all bodies take.
#[derive(Debug)]
struct Room {
    most: usize,
    taken: usize,
    next: u64,
    /// Those that are still coming. They are here, so that one that gives way does so at once.
    coming: BTreeMap<u64, Coming>,
}

#[derive(Debug, Default)]
struct Coming {
    bytes: Vec<u8>,
    /// Bytes that it takes, more than it has yet.
    takes: usize,
}

/// The place of a body in the room, until it is dropped.
struct Place {
    room: Arc<Mutex<Room>>,
    id: u64,
    /// Bytes that it takes, once it is whole.
    takes: usize,
}

/// A body that nobody has read yet.
pub(super) struct Unread {
    headers: HeaderMap,
    body: Body,
    client: Option<Client>,
}

/// A whole body, and the room that it takes.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    /// Given back when whoever works on the body is done.
    _place: Place,
}

/// How a body keeps up with the slowest that is allowed.
struct Pace {
    /// When it is given up unless more comes.
    until: Instant,
    timeouts: Timeouts,
}

impl<S: Sync> FromRequest<S> for Unread {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let (head, body) = request.into_parts();
        Ok(Self { client: head.extensions.get().cloned(), headers: head.headers, body })
    }
}

impl Bodies {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { room: Arc::new(Mutex::new(Room::new(ALL_BODIES_BYTES))), timeouts }
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(&self, unread: Unread, limit: usize) -> Result<Held, Problem> {
        let Unread { headers, body, client } = unread;
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
        let mut place = Place::new(&self.room);
        let (begun, mut frames) = (Instant::now(), body.into_data_stream());
        let (mut pace, mut bytes) = (Pace::begin(self.timeouts, begun), 0);
        loop {
            if let Some(client) = &client {
                client.sends_until(pace.until);
            }
            let frame = match timeout(pace.patience(Instant::now()), frames.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Problem::of(Kind::Request, &error)),
                Err(_) => {
                    return Err(Problem::new(
                        Kind::Slow,
                        format!("the body came too slowly: {bytes} bytes in {:.0?}", begun.elapsed()),
                    ));
                }
            };
            bytes += frame.len();
            if bytes > limit {
                return Err(too_large(format!("{bytes} or more")));
            }
            place.add(&frame, length.unwrap_or(limit))?;
            pace.came(frame.len(), Instant::now());
        }
        if let Some(client) = &client {
            client.has_sent();
        }
        Ok(Held { bytes: place.whole()?.into(), _place: place })
    }
}

impl Pace {
    fn begin(timeouts: Timeouts, now: Instant) -> Self {
        Self { until: now + timeouts.behind, timeouts }
    }

    fn came(&mut self, bytes: usize, now: Instant) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / u64::from(self.timeouts.slowest.max(1));
        self.until = (self.until + Duration::from_micros(micros)).min(now + self.timeouts.behind);
    }

    /// How long more of the body is waited for.
    fn patience(&self, now: Instant) -> Duration {
        self.timeouts.silence.min(self.until.saturating_duration_since(now))
    }
}

impl Room {
    fn new(most: usize) -> Self {
        Self { most, taken: 0, next: 0, coming: BTreeMap::new() }
    }

    /// More of a body comes, which will have so many bytes at most. Larger ones make room for it.
    fn add(&mut self, id: u64, more: &[u8], at_most: usize) -> Result<(), Problem> {
        let Some(Coming { bytes, takes }) = self.coming.get(&id) else { return Err(busy(self.most)) };
        let (needed, had) = (bytes.len() + more.len(), *takes);
        // Twice as much as it has, so that it is seldom moved.
        let takes = needed.next_power_of_two().max(MIN_BYTES).min(at_most).max(needed).max(had);
        self.make_room(id, takes - had, takes)?;
        let Some(coming) = self.coming.get_mut(&id) else { return Err(busy(self.most)) };
        self.taken += takes - had;
        coming.takes = takes;
        coming.bytes.reserve_exact(takes - coming.bytes.len());
        coming.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Has as much be free, by taking the room of others that are coming and take more than `takes`.
    fn make_room(&mut self, id: u64, more: usize, takes: usize) -> Result<(), Problem> {
        let mut free = self.most - self.taken;
        if more <= free {
            return Ok(());
        }
        let larger = self.coming.iter().filter(|(other, coming)| **other != id && coming.takes > takes);
        let mut larger: Vec<_> = larger.map(|(other, coming)| (coming.takes, *other)).collect();
        if free + larger.iter().map(|(takes, _)| takes).sum::<usize>() < more {
            return Err(busy(self.most));
        }
        larger.sort_unstable();
        while let Some((_, largest)) = larger.pop_if(|_| free < more) {
            free += self.give_back(largest);
        }
        Ok(())
    }

    /// Gives back what a body that is coming takes.
    fn give_back(&mut self, id: u64) -> usize {
        let takes = self.coming.remove(&id).map_or(0, |coming| coming.takes);
        self.taken -= takes;
        takes
    }
}

fn busy(most: usize) -> Problem {
    Problem::busy(format!("bodies of {} MiB are here, and there is no room for more of this one", most >> 20))
}

impl Place {
    fn new(room: &Arc<Mutex<Room>>) -> Self {
        let mut all = locked(room);
        let id = all.next;
        all.next += 1;
        all.coming.insert(id, Coming::default());
        Self { room: Arc::clone(room), id, takes: 0 }
    }

    fn add(&self, more: &[u8], at_most: usize) -> Result<(), Problem> {
        locked(&self.room).add(self.id, more, at_most)
    }

    /// All of the body is here, and nobody takes its room any more.
    fn whole(&mut self) -> Result<Vec<u8>, Problem> {
        let mut room = locked(&self.room);
        let Some(Coming { bytes, takes }) = room.coming.remove(&self.id) else { return Err(busy(room.most)) };
        drop(room);
        self.takes = takes;
        Ok(bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = locked(&self.room);
        room.give_back(self.id);
        room.taken -= self.takes;
    }
}

/// Locked for a few steps only, each whole in itself.
fn locked(room: &Mutex<Room>) -> MutexGuard<'_, Room> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body is given up that comes in pieces of so many bytes, each so long after the one before.
    fn is_given_up(pieces: impl IntoIterator<Item = (Duration, usize)>) -> Option<Duration> {
        let begun = Instant::now();
        let (mut pace, mut now) = (Pace::begin(Timeouts::default(), begun), begun);
        for (pause, bytes) in pieces {
            if pace.patience(now) <= pause {
                return Some(now + pace.patience(now) - begun);
            }
            now += pause;
            pace.came(bytes, now);
        }
        None
    }

    #[test]
    fn a_slow_line_is_served_and_who_only_keeps_a_place_is_not() {
        let (second, millis) = (Duration::from_secs(1), Duration::from_millis);
        // 2 MB at 256 kbit/s, in packets, and with what 9 s bring at once.
        let (whole, packet) = (2_000_000, 1_460);
        let packets = whole / packet + 1;
        assert_eq!(is_given_up(vec![(second * packet as u32 / 32_000, packet); packets]), None);
        assert_eq!(is_given_up(vec![(9 * second, 9 * 32_000); whole / (9 * 32_000) + 1]), None);
        // 64 MiB as slowly as may be.
        assert_eq!(is_given_up(vec![(second, 16 << 10); MAX_BODY_BYTES / (16 << 10)]), None);
        let given_up = |pieces: Vec<_>| is_given_up(pieces).map(|after| after.as_secs());
        assert_eq!(given_up(vec![(9 * second, 1); 1_000]), Some(20));
        assert_eq!(given_up(vec![(millis(10_001), 1)]), Some(10));
        // Half as fast as may be: half a second behind after each.
        assert_eq!(given_up(vec![(second, 8 << 10); 1_000]), Some(39));
        // Much at once, and then next to nothing.
        assert_eq!(given_up([vec![(second, 32 << 20)], vec![(9 * second, 1); 1_000]].concat()), Some(21));
    }

    #[test]
    fn larger_bodies_give_way_to_smaller_ones() {
        let room = Arc::new(Mutex::new(Room::new(16 << 10)));
        let [first, second, mut third, fourth] = [(); 4].map(|()| Place::new(&room));
        let add = |place: &Place, bytes: usize| place.add(&vec![7; bytes], 64 << 10).map_err(|problem| problem.kind());
        // What is announced takes nothing.
        assert_eq!((add(&first, 1), locked(&room).taken), (Ok(()), MIN_BYTES));
        assert_eq!((add(&first, 7 << 10), locked(&room).taken), (Ok(()), 8 << 10));
        assert_eq!((add(&second, 4 << 10), add(&third, 4 << 10), locked(&room).taken), (Ok(()), Ok(()), 16 << 10));
        // Whoever would be largest itself gets no more.
        assert_eq!(add(&second, 5 << 10), Err(Kind::Busy));
        // The largest gives way, and all of its room is there at once.
        assert_eq!((add(&fourth, 100), locked(&room).taken), (Ok(()), (8 << 10) + MIN_BYTES));
        assert_eq!(add(&first, 1), Err(Kind::Busy));
        // What is whole stays.
        assert_eq!(third.whole().unwrap().len(), 4 << 10);
        assert_eq!((add(&fourth, 7 << 10), add(&second, 1), locked(&room).taken), (Ok(()), Err(Kind::Busy), 16 << 10));
        drop(second);
        assert_eq!(add(&fourth, 9 << 10), Err(Kind::Busy));
        drop((first, third, fourth));
        let room = locked(&room);
        assert_eq!((room.taken, room.coming.len()), (0, 0));
    }
}
