//! A byte stream to a peer, client or server: TCP, unix socket or TLS over TCP, with one way to read and write.
//!
//! Reads go through one scratch buffer per thread and only what arrived is kept, so an idle connection holds no
//! buffer. A short read clears tokio's readiness, so no read is made that is sure to find nothing.

use bytes::{Buf, BytesMut};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Bytes read from a socket at once.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SCRATCH_BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// The thread's buffer for bytes that have just been read. Dropping it makes it free for the next read.
#[derive(Debug)]
pub struct Scratch(Option<Box<[u8]>>);

impl Scratch {
    /// The buffer, or another one while somebody up the stack uses it.
    #[inline]
    #[must_use]
    pub fn take() -> Self {
        let kept = SCRATCH_BUFFER.take();
        Self(Some(
            kept.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice()),
        ))
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Scratch {
    #[inline]
    fn drop(&mut self) {
        SCRATCH_BUFFER.set(self.0.take());
    }
}

/// Bytes that went over a connection and have not been counted yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

impl Traffic {
    /// That many more came.
    #[inline]
    pub fn receive(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// That many more went.
    #[inline]
    pub fn send(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }
}

/// The kinds of stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP
    Tcp(TcpStream),
    /// A unix socket
    Unix(UnixStream),
    /// TLS towards a server
    TlsServer(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// TLS from a client
    TlsClient(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// Nothing any more
    Closed,
    /// Nobody: takes whatever is written, and never says anything
    Nobody,
}

impl Stream {
    fn poll_read_buf(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => Pin::new(s).poll_read(context, buffer),
            Self::Unix(s) => Pin::new(s).poll_read(context, buffer),
            Self::TlsServer(s) => Pin::new(s.as_mut()).poll_read(context, buffer),
            Self::TlsClient(s) => Pin::new(s.as_mut()).poll_read(context, buffer),
            Self::Closed => Poll::Ready(Ok(())),
            Self::Nobody => Poll::Pending,
        }
    }

    fn poll_write_some(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(s) => Pin::new(s).poll_write(context, bytes),
            Self::Unix(s) => Pin::new(s).poll_write(context, bytes),
            Self::TlsServer(s) => Pin::new(s.as_mut()).poll_write(context, bytes),
            Self::TlsClient(s) => Pin::new(s.as_mut()).poll_write(context, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Nobody => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush_tls(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Closed | Self::Nobody => Poll::Ready(Ok(())),
            Self::TlsServer(s) => Pin::new(s.as_mut()).poll_flush(context),
            Self::TlsClient(s) => Pin::new(s.as_mut()).poll_flush(context),
        }
    }

    /// Is there something inside TLS that the socket has not taken? It goes by flushing, not by writing more.
    #[must_use]
    pub fn has_to_flush(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Closed | Self::Nobody => false,
            Self::TlsServer(s) => s.get_ref().1.wants_write(),
            Self::TlsClient(s) => s.get_ref().1.wants_write(),
        }
    }

    /// Appends what has arrived to `buffer`; 0 means the peer closed.
    pub fn poll_read_into(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = Scratch::take();
        let length = ready!(self.poll_read_scratch(context, &mut scratch))?;
        buffer.extend_from_slice(&scratch.bytes()[..length]);
        Poll::Ready(Ok(length))
    }

    /// Reads what has arrived into `scratch` and says how much it is; 0 means the peer closed.
    #[inline]
    pub fn poll_read_scratch(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(scratch.bytes());
        ready!(self.poll_read_buf(context, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Writes what the socket takes of `bytes` and puts the rest into `outbox`, which is empty. An error is met again
    /// when the rest is flushed, which is also what waits for the socket.
    #[inline]
    pub fn write_now(&mut self, bytes: &[u8], outbox: &mut BytesMut) {
        let written = match self {
            Self::Tcp(s) => s.try_write(bytes).unwrap_or(0),
            Self::Unix(s) => s.try_write(bytes).unwrap_or(0),
            Self::TlsServer(_) | Self::TlsClient(_) | Self::Closed => 0,
            Self::Nobody => bytes.len(),
        };
        if written < bytes.len() {
            outbox.extend_from_slice(&bytes[written..]);
        }
    }

    /// May something have arrived? Asks no system call: what the reactor has heard tells.
    #[inline]
    pub fn may_be_readable(&self) -> bool {
        let heard = |result: io::Result<()>| result.is_ok();
        match self {
            Self::Tcp(s) => heard(s.try_io(Interest::READABLE, || Ok(()))),
            Self::Unix(s) => heard(s.try_io(Interest::READABLE, || Ok(()))),
            Self::TlsServer(s) => heard(s.get_ref().0.try_io(Interest::READABLE, || Ok(()))),
            Self::TlsClient(s) => heard(s.get_ref().0.try_io(Interest::READABLE, || Ok(()))),
            Self::Closed => true,
            Self::Nobody => false,
        }
    }

    /// Appends what has arrived to `buffer`, waiting for something to arrive; 0 means the peer closed.
    ///
    /// Cancel safe: what was read is in `buffer`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn read_into(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| self.poll_read_into(context, buffer)).await
    }

    /// Writes as much of `buffer` as the socket takes, removing it from `buffer`, until `buffer` is empty.
    pub fn poll_write_from(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        while buffer.has_remaining() {
            let written = ready!(self.poll_write_some(context, buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buffer.advance(written);
        }
        buffer.clear();
        self.poll_flush_tls(context)
    }

    /// Writes all of `buffer`, leaving it empty.
    ///
    /// Cancel safe: what was written is gone from `buffer`, the rest is still in it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn write_from(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        poll_fn(|context| self.poll_write_from(context, buffer)).await
    }
}

/// Gives an emptied buffer back to the allocator, so that an idle connection holds none.
pub fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
