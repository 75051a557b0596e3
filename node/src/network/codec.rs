//! Requests and responses on a stream: a length as u32 little-endian, then that many bytes.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use super::Misbehaviour;

/// Reads and writes requests and responses, each up to its limit in bytes.
#[derive(Clone)]
pub(super) struct ByteCodec {
    pub(super) max_request: usize,
    pub(super) max_response: usize,
}

/// The length exceeds the limit; carried inside of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes, at most {limit} are allowed")]
pub(super) struct TooLarge {
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// A request as it came. One that cannot be read is no error of the stream, of which libp2p would tell us nothing: whoever sent it is
/// to pay for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// All bytes that its length promises.
    Whole(Vec<u8>),
    /// Too large, or ended in its middle.
    Unreadable(Misbehaviour),
}

impl Codec for ByteCodec {
    type Protocol = StreamProtocol;
    type Request = Incoming;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Incoming>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, self.max_request).await {
            Ok(request) => Ok(Incoming::Whole(request)),
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()) => {
                Ok(Incoming::Unreadable(Misbehaviour::Oversize))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Incoming::Unreadable(Misbehaviour::Torn)),
            Err(error) => Err(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_response).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Incoming) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            Incoming::Whole(request) => write(io, &request, self.max_request).await,
            Incoming::Unreadable(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response, self.max_response).await
    }
}

async fn read<T: AsyncRead + Unpin>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length);
    let bytes = usize::try_from(length).expect("u32 fits in usize on all platforms that libp2p builds for");
    if bytes > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, TooLarge { bytes, limit }));
    }
    // Grows as bytes arrive: a claimed length alone takes no memory.
    let mut data = Vec::new();
    io.take(length.into()).read_to_end(&mut data).await?;
    if data.len() == bytes { Ok(data) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write<T: AsyncWrite + Unpin>(io: &mut T, data: &[u8], limit: usize) -> io::Result<()> {
    let length = u32::try_from(data.len()).ok().filter(|_| data.len() <= limit);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, TooLarge { bytes: data.len(), limit }));
    };
    io.write_all(&length.to_le_bytes()).await?;
    io.write_all(data).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn golden_bytes() {
        let mut wire = Vec::new();
        block_on(write(&mut wire, b"abc", 3)).expect("within the limit");
        assert_eq!(wire, [3, 0, 0, 0, b'a', b'b', b'c']);
        assert_eq!(block_on(read(&mut Cursor::new(&wire), 3)).expect("whole"), b"abc");
    }

    #[test]
    fn too_large_is_refused_on_both_sides() {
        let too_large =
            |error: io::Error| *error.get_ref().and_then(|e| e.downcast_ref::<TooLarge>()).expect("TooLarge");
        let mut wire = Vec::new();
        let error = block_on(write(&mut wire, b"abc", 2)).expect_err("above the limit");
        assert_eq!(too_large(error), TooLarge { bytes: 3, limit: 2 });
        assert!(wire.is_empty());
        let error = block_on(read(&mut Cursor::new([0xff; 4]), 2)).expect_err("above the limit");
        assert_eq!(too_large(error), TooLarge { bytes: u32::MAX as usize, limit: 2 });
    }

    #[test]
    fn requests_that_cannot_be_read_are_told() {
        let mut codec = ByteCodec { max_request: 3, max_response: 3 };
        let protocol = StreamProtocol::new("/test");
        for (wire, expected) in [
            (&[3, 0, 0, 0, b'a', b'b', b'c'][..], Incoming::Whole(b"abc".to_vec())),
            (&[0, 0, 0, 0], Incoming::Whole(Vec::new())),
            (&[4, 0, 0, 0], Incoming::Unreadable(Misbehaviour::Oversize)),
            (&[3, 0, 0, 0, b'a'], Incoming::Unreadable(Misbehaviour::Torn)),
            (&[], Incoming::Unreadable(Misbehaviour::Torn)),
        ] {
            let read = block_on(codec.read_request(&protocol, &mut Cursor::new(wire))).expect("no error of the stream");
            assert_eq!(read, expected, "{wire:?}");
        }
    }

    #[test]
    fn a_torn_message_is_an_error() {
        for wire in [&[][..], &[1, 0, 0], &[3, 0, 0, 0, b'a', b'b']] {
            let error = block_on(read(&mut Cursor::new(wire), 10)).expect_err("torn");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{wire:?}");
        }
    }
}
