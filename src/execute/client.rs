//! The client's end of a session, as an executor sees it: bytes to it with back pressure, bytes from it, or gone.

use crate::backend::stream::{Scratch, Stream, Traffic, release};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use tokio_rustls::TlsAcceptor;

/// A client's connection with what was read from it and what waits to be written to it.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Bytes read and not yet consumed.
    pub inbox: BytesMut,
    /// Bytes to be sent with the next flush.
    pub outbox: BytesMut,
    /// The longest message it may send.
    pub message_max: usize,
    /// Since somebody last took it.
    pub traffic: Traffic,
}

impl Client {
    /// Around a connected stream.
    #[must_use]
    pub fn new(stream: Stream, message_max: usize) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            message_max,
            traffic: Traffic::default(),
        }
    }

    /// Puts TLS around the connection. Nothing may be waiting in the buffers.
    ///
    /// # Errors
    /// The handshake's; the connection is gone then.
    pub async fn start_tls(&mut self, acceptor: &TlsAcceptor) -> io::Result<()> {
        let Stream::Tcp(_) = &self.stream else {
            return Err(io::Error::other("TLS goes around TCP only"));
        };
        let Stream::Tcp(tcp) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            unreachable!("just matched");
        };
        self.stream = Stream::TlsClient(Box::new(acceptor.accept(tcp).await?));
        Ok(())
    }

    /// Appends what has arrived to the inbox; an error means the client is gone, also when it closed in good order.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.stream.poll_read_into(context, &mut self.inbox)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.traffic.receive(length);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Reads into `scratch` instead of the inbox; 0 bytes mean the client is gone.
    #[inline]
    pub fn poll_read_scratch(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let read = self.stream.poll_read_scratch(context, scratch);
        if let Poll::Ready(Ok(length)) = read {
            self.traffic.receive(length);
        }
        read
    }

    /// Sends as much as the socket takes now; the rest waits in the outbox, which is empty.
    #[inline]
    pub fn send_now(&mut self, bytes: &[u8]) {
        self.stream.write_now(bytes, &mut self.outbox);
        self.traffic.send(bytes.len() - self.outbox.len());
    }

    /// Waits for more bytes in the inbox.
    ///
    /// Cancel safe: what was read is in the inbox.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn fill(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    /// Writes what waits in the outbox.
    ///
    /// Cancel safe: what was written is gone from the outbox, and what is inside TLS goes with the next flush.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() && !self.stream.has_to_flush() {
            return Ok(());
        }
        self.traffic.send(self.outbox.len());
        self.stream.write_from(&mut self.outbox).await
    }

    /// Gives emptied buffers back; an idle client holds none.
    pub fn rest(&mut self) {
        release(&mut self.inbox);
        release(&mut self.outbox);
    }
}
