//! Requests and responses on a stream: a length as u32 little-endian, then that many bytes.
//!
//! Whoever opens a stream makes us hold what it sends, and whoever does not read makes us hold what we send. So each message has
//! the limit of its kind, a request has a time to arrive in, a response to be taken in, and all streams of one connection
//! share what may be held of requests; of responses see `untaken`.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::Semaphore;

use super::untaken::ResponseBytes;
use super::{MessageLimits, Misbehaviour, NetworkLimits};

/// Bytes of a response that have to be taken at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes at the beginning of a request that tell its kind.
const HEAD_BYTES: usize = 4;

/// Reads and writes requests and responses.
pub(super) struct ByteCodec {
    limits: MessageLimits,
    patience: Patience,
    /// What the streams of one connection hold; `None` of no connection.
    held: Option<Arc<Held>>,
    /// Of the response on this stream, in bytes, once the request is written.
    response_limit: usize,
}

/// How long is waited for a peer, and for how long that is.
#[derive(Clone)]
struct Patience {
    time: Duration,
    sleep: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Patience {
    /// What comes in time; `None` if it does not.
    async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        match select(pin!(what), (self.sleep)(self.time)).await {
            Either::Left((what, _)) => Some(what),
            Either::Right(_) => None,
        }
    }
}

/// What the streams of one connection hold.
struct Held {
    /// Bytes that requests may still have.
    requests: Semaphore,
}

/// The length exceeds the limit; carried inside of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes, at most {limit} are allowed")]
pub(super) struct TooLarge {
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// A peer does not take what it has asked for; carried inside of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} bytes of a response were not taken in time")]
pub(super) struct NotTaken {
    pub(super) left: usize,
}

/// A request as it came. One that cannot be read is no error of the stream, of which libp2p would tell us nothing: whoever sent it is
/// to pay for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// All bytes that its length promises.
    Whole(Vec<u8>),
    /// Too large for its kind, or ended in its middle, or did not come in time.
    Unreadable(Misbehaviour),
}

impl ByteCodec {
    pub(super) fn new(limits: &NetworkLimits) -> Self {
        let patience = Patience { time: limits.times.piece, sleep: Arc::new(|time| tokio::time::sleep(time).boxed()) };
        Self { limits: limits.messages.clone(), patience, held: None, response_limit: 0 }
    }

    fn held(&self) -> Arc<Held> {
        self.held.clone().unwrap_or_else(|| Arc::new(Held::new(&self.limits)))
    }
}

/// The behaviour clones its codec for each connection, and a connection its own for each stream: what is cloned from the first is of
/// a new connection, and what is cloned from that shares what the connection holds.
impl Clone for ByteCodec {
    fn clone(&self) -> Self {
        let (limits, patience) = (self.limits.clone(), self.patience.clone());
        Self { limits, patience, held: Some(self.held()), response_limit: 0 }
    }
}

impl Held {
    fn new(limits: &MessageLimits) -> Self {
        Self { requests: Semaphore::new(limits.half_read_bytes.min(Semaphore::MAX_PERMITS)) }
    }
}

impl Codec for ByteCodec {
    type Protocol = StreamProtocol;
    type Request = Incoming;
    type Response = ResponseBytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Incoming>
    where
        T: AsyncRead + Unpin + Send,
    {
        let held = self.held();
        match read_request(io, &self.limits, &self.patience, &held.requests).await {
            Ok(request) => Ok(Incoming::Whole(request)),
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()) => {
                Ok(Incoming::Unreadable(Misbehaviour::Oversize))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut) => {
                Ok(Incoming::Unreadable(Misbehaviour::Torn))
            }
            Err(error) => Err(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<ResponseBytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        let length = read_length(io, self.response_limit).await?;
        read_rest(io, Vec::new(), length).await.map(ResponseBytes::received)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Incoming) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Incoming::Whole(request) = request else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.response_limit = (self.limits.response_bytes)(&request);
        write_length(io, request.len(), (self.limits.request_bytes)(&head(&request))).await?;
        io.write_all(&request).await?;
        io.flush().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: ResponseBytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let data = &response.data;
        let write = async {
            // Who made it has held it against the limit of its kind.
            write_length(io, data.len(), u32::MAX as usize).await
        };
        in_time(&self.patience, data.len(), write).await?;
        let mut left = data.len();
        for piece in data.chunks(PIECE_BYTES) {
            in_time(&self.patience, left, io.write_all(piece)).await?;
            left -= piece.len();
        }
        in_time(&self.patience, left, io.flush()).await
    }
}

/// Writes in time, or says how much was left.
async fn in_time(patience: &Patience, left: usize, write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    patience.wait(write).await.unwrap_or_else(|| Err(io::Error::other(NotTaken { left })))
}

/// The first bytes of a request; zeros after the end of a shorter one.
pub(super) fn head(request: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head.iter_mut().zip(request).for_each(|(to, from)| *to = *from);
    head
}

/// Reads a request, once as many bytes may be held. It has its time for its beginning, and for the rest.
async fn read_request<T: AsyncRead + Unpin>(
    io: &mut T,
    limits: &MessageLimits,
    patience: &Patience,
    room: &Semaphore,
) -> io::Result<Vec<u8>> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let beginning = async {
        // No kind has more than may be held at all.
        let length = read_length(io, limits.half_read_bytes).await?;
        let beginning = read_rest(io, Vec::new(), length.min(HEAD_BYTES)).await?;
        check(length, (limits.request_bytes)(&head(&beginning)))?;
        io::Result::Ok((length, beginning))
    };
    let (length, beginning) = patience.wait(beginning).await.ok_or_else(late)??;
    // Others of this connection may take long; it is not this one's fault.
    let permits = u32::try_from(length).unwrap_or(u32::MAX);
    let most = u32::try_from(limits.half_read_bytes).unwrap_or(u32::MAX);
    let _held = room.acquire_many(permits.min(most)).await.map_err(io::Error::other)?;
    patience.wait(read_rest(io, beginning, length)).await.ok_or_else(late)?
}

async fn read_length<T: AsyncRead + Unpin>(io: &mut T, limit: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    check(bytes, limit)?;
    Ok(bytes)
}

fn check(bytes: usize, limit: usize) -> io::Result<()> {
    if bytes <= limit { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, TooLarge { bytes, limit })) }
}

/// Reads until there are so many bytes.
async fn read_rest<T: AsyncRead + Unpin>(io: &mut T, mut data: Vec<u8>, bytes: usize) -> io::Result<Vec<u8>> {
    // Grows as bytes arrive: a claimed length alone takes no memory.
    io.take(bytes.saturating_sub(data.len()) as u64).read_to_end(&mut data).await?;
    if data.len() == bytes { Ok(data) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write_length<T: AsyncWrite + Unpin>(io: &mut T, bytes: usize, limit: usize) -> io::Result<()> {
    check(bytes, limit.min(u32::MAX as usize)).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    io.write_all(&u32::try_from(bytes).map_err(io::Error::other)?.to_le_bytes()).await
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::executor::block_on;
    use futures::io::Cursor;
    use tokio::sync::watch;

    use super::*;
    use crate::network::Times;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    /// Requests that begin with 1 may have 8 bytes, others 5; a response may have as many as the request says in its last byte.
    fn codec() -> ByteCodec {
        let messages = MessageLimits {
            request_bytes: |head| if head[0] == 1 { 8 } else { 5 },
            response_bytes: |request| request.last().copied().unwrap_or(0).into(),
            half_read_bytes: 16,
            ..MessageLimits::default()
        };
        let times = Times { piece: Duration::from_secs(15), ..Times::default() };
        ByteCodec::new(&NetworkLimits { messages, times, ..NetworkLimits::default() })
    }

    fn too_large(error: &io::Error) -> Option<TooLarge> {
        let inner = error.get_ref()?;
        let inner = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref).unwrap_or(inner);
        inner.downcast_ref::<TooLarge>().copied()
    }

    /// A peer that sends or takes some bytes at once and then nothing more, without closing.
    struct Stuck<'a> {
        bytes: &'a [u8],
        takes: usize,
    }

    impl AsyncRead for Stuck<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            let count = into.len().min(self.bytes.len());
            let (now, later) = self.bytes.split_at(count);
            into[..count].copy_from_slice(now);
            self.bytes = later;
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }
    }

    impl AsyncWrite for Stuck<'_> {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.takes);
            self.takes -= count;
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn golden_bytes() {
        let (mut codec, mut wire) = (codec(), Vec::new());
        codec.write_request(&PROTOCOL, &mut wire, Incoming::Whole(b"abc".to_vec())).await.expect("within the limit");
        assert_eq!(wire, [3, 0, 0, 0, b'a', b'b', b'c']);
        let read = codec.read_request(&PROTOCOL, &mut Cursor::new(&wire)).await.expect("whole");
        assert_eq!(read, Incoming::Whole(b"abc".to_vec()));
        wire.clear();
        codec
            .write_response(&PROTOCOL, &mut wire, ResponseBytes::received(b"de".to_vec()))
            .await
            .expect("no limit of its own");
        assert_eq!(wire, [2, 0, 0, 0, b'd', b'e']);
    }

    #[test]
    fn each_kind_has_its_limit_on_both_sides() {
        let mut codec = codec();
        for (request, expected) in [
            (vec![1; 8], None),
            (vec![1; 9], Some(TooLarge { bytes: 9, limit: 8 })),
            (vec![2; 5], None),
            (vec![2; 6], Some(TooLarge { bytes: 6, limit: 5 })),
        ] {
            let mut wire = Vec::new();
            let written = block_on(codec.write_request(&PROTOCOL, &mut wire, Incoming::Whole(request)));
            assert_eq!(written.err().as_ref().and_then(too_large), expected);
            assert_eq!(wire.is_empty(), expected.is_some());
        }
    }

    /// What was asked for says how large the response may be, and more is refused by its length alone.
    #[test]
    fn a_response_has_the_limit_of_what_was_asked_for() {
        for (asked, length, expected) in [
            (3, 3u32, None),
            (3, 4, Some(TooLarge { bytes: 4, limit: 3 })),
            (0, 1, Some(TooLarge { bytes: 1, limit: 0 })),
            (200, u32::MAX, Some(TooLarge { bytes: u32::MAX as usize, limit: 200 })),
        ] {
            let mut codec = codec().clone();
            block_on(codec.write_request(&PROTOCOL, &mut Vec::new(), Incoming::Whole(vec![1, asked])))
                .expect("a request");
            let mut wire = length.to_le_bytes().to_vec();
            if expected.is_none() {
                wire.extend(vec![7; length as usize]);
            }
            let read = block_on(codec.read_response(&PROTOCOL, &mut Cursor::new(wire)));
            assert_eq!(read.err().as_ref().and_then(too_large), expected);
        }
    }

    /// Time that passes when the test says so, in seconds.
    struct Time(watch::Sender<u64>);

    impl Time {
        /// A codec of one connection that goes by this time.
        fn codec(&self, of: &ByteCodec) -> ByteCodec {
            let now = self.0.subscribe();
            let sleep = move |time: Duration| {
                let mut now = now.clone();
                async move {
                    let due = *now.borrow() + time.as_secs();
                    drop(now.wait_for(|now| *now >= due).await);
                }
                .boxed()
            };
            let mut codec = of.clone();
            codec.patience.sleep = Arc::new(sleep);
            codec
        }

        async fn pass(&self, seconds: u64) {
            settle().await;
            self.0.send_modify(|now| *now += seconds);
            settle().await;
        }
    }

    fn time() -> Time {
        Time(watch::Sender::new(0))
    }

    /// Lets all tasks do what they can.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn requests_that_cannot_be_read_are_told() {
        let time = time();
        let mut reading = time.codec(&codec());
        for (wire, expected) in [
            (&[3, 0, 0, 0, b'a', b'b', b'c'][..], Incoming::Whole(b"abc".to_vec())),
            (&[0, 0, 0, 0], Incoming::Whole(Vec::new())),
            (&[6, 0, 0, 0, 2, 0, 0, 0], Incoming::Unreadable(Misbehaviour::Oversize)),
            (&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0], Incoming::Unreadable(Misbehaviour::Oversize)),
            (&[3, 0, 0, 0, b'a'], Incoming::Unreadable(Misbehaviour::Torn)),
            (&[], Incoming::Unreadable(Misbehaviour::Torn)),
        ] {
            let read = reading.read_request(&PROTOCOL, &mut Cursor::new(wire)).await.expect("no error of the stream");
            assert_eq!(read, expected, "{wire:?}");
        }
        // Streams that stay open: nothing comes at all, or not all of it. Each has its time, and not more.
        for bytes in [&[][..], &[8, 0, 0, 0, 1], &[8, 0, 0, 0, 1, 0, 0, 0, 0]] {
            let mut codec = reading.clone();
            let read = tokio::spawn(async move { codec.read_request(&PROTOCOL, &mut Stuck { bytes, takes: 0 }).await });
            time.pass(14).await;
            assert!(!read.is_finished(), "{bytes:?}");
            time.pass(1).await;
            assert!(read.is_finished(), "{bytes:?}");
            let read = read.await.expect("no panic").expect("no error of the stream");
            assert_eq!(read, Incoming::Unreadable(Misbehaviour::Torn));
        }
    }

    /// Thirty-two streams of one connection each send half a request. What is held of them is bounded, and another connection is
    /// not touched by it.
    #[tokio::test]
    async fn half_sent_requests_of_one_connection_share_what_may_be_held() {
        const HALF: [u8; 9] = [8, 0, 0, 0, 1, 0, 0, 0, 0];
        let (behaviour, time) = (codec(), time());
        let connection = time.codec(&behaviour);
        let streams: Vec<_> = (0..32)
            .map(|_| {
                let mut codec = connection.clone();
                tokio::spawn(async move { codec.read_request(&PROTOCOL, &mut Stuck { bytes: &HALF, takes: 0 }).await })
            })
            .collect();
        time.pass(1).await;
        assert_eq!(connection.held().requests.available_permits(), 0, "two are read, thirty wait");
        let whole = [8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let other = time.codec(&behaviour).read_request(&PROTOCOL, &mut Cursor::new(whole)).await;
        assert!(matches!(other, Ok(Incoming::Whole(_))), "{other:?}");
        // One of the same connection waits its turn, and is served.
        let mut codec = connection.clone();
        let late = tokio::spawn(async move { codec.read_request(&PROTOCOL, &mut Cursor::new(whole)).await });
        let mut ended = Vec::new();
        for _ in 0..16 {
            assert!(!late.is_finished());
            time.pass(15).await;
            ended.push(streams.iter().filter(|stream| stream.is_finished()).count());
        }
        assert_eq!(ended, (1..=16).map(|round| 2 * round).collect::<Vec<_>>(), "two at a time");
        assert!(matches!(late.await, Ok(Ok(Incoming::Whole(_)))));
        for stream in streams {
            let read = stream.await.expect("no panic").expect("no error of the stream");
            assert_eq!(read, Incoming::Unreadable(Misbehaviour::Torn));
        }
        assert_eq!(connection.held().requests.available_permits(), 16);
    }

    #[tokio::test]
    async fn responses_that_nobody_takes_are_given_up() {
        let time = time();
        let connection = time.codec(&codec());
        let write = |bytes: usize, takes: usize| {
            let mut codec = connection.clone();
            tokio::spawn(async move {
                let written = codec
                    .write_response(
                        &PROTOCOL,
                        &mut Stuck { bytes: &[], takes },
                        ResponseBytes::received(vec![0; bytes]),
                    )
                    .await;
                written.map_err(|error| *error.get_ref().and_then(|e| e.downcast_ref::<NotTaken>()).expect("not taken"))
            })
        };
        assert_eq!(write(1 << 20, usize::MAX).await.expect("no panic"), Ok(()));
        let slow = write(150_000, 4 + 70_000);
        time.pass(14).await;
        assert_eq!(write(40_000, usize::MAX).await.expect("no panic"), Ok(()));
        time.pass(1).await;
        assert!(slow.is_finished());
        assert_eq!(slow.await.expect("no panic"), Err(NotTaken { left: 150_000 - PIECE_BYTES }));
    }

    #[test]
    fn a_torn_message_is_an_error() {
        for wire in [&[][..], &[1, 0, 0], &[3, 0, 0, 0, b'a', b'b']] {
            let read = async { read_rest(&mut Cursor::new(&wire[4.min(wire.len())..]), Vec::new(), 3).await };
            assert_eq!(block_on(read).expect_err("torn").kind(), io::ErrorKind::UnexpectedEof, "{wire:?}");
        }
    }
}
