//! The client's end of a session, as an executor sees it: bytes to it with back pressure, bytes from it, or gone.

use crate::backend::stream::{Scratch, Stream, Traffic, release};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    record: Option<Box<Record>>,
}

/// Bytes that copies of answers may take together.
#[derive(Debug)]
pub struct CopyBudget(AtomicUsize);

impl CopyBudget {
    /// So many.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        let enough = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A copy of what a client was told.
#[derive(Debug)]
pub struct Told {
    bytes: BytesMut,
    budget: Arc<CopyBudget>,
}

impl Deref for Told {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}

/// A copy of what the client is told, while it is.
#[derive(Debug)]
struct Record {
    told: Told,
    /// Bytes of the outbox that are in it, or are not to be.
    past: usize,
    max: usize,
    /// The outbox is being written. Should that be given up on the way, nobody knows how much of it is left.
    flushing: bool,
    /// It has become too long, or cannot be trusted: nothing more is copied.
    ended: bool,
}

impl Record {
    /// Takes what the outbox has behind `past`.
    fn take(&mut self, outbox: &[u8]) {
        let whole = !self.ended && !self.flushing;
        let Some(new) = outbox.get(self.past..).filter(|_| whole) else {
            self.end();
            return;
        };
        if self.told.len() + new.len() > self.max || !self.told.budget.take(new.len()) {
            self.end();
            return;
        }
        self.told.bytes.extend_from_slice(new);
        self.past = outbox.len();
    }

    fn end(&mut self) {
        self.ended = true;
        let budget = Arc::clone(&self.told.budget);
        self.told = Told {
            bytes: BytesMut::new(),
            budget,
        };
    }
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
            record: None,
        }
    }

    /// From now on what the client is told is copied, as long as it is no more than `max` bytes and the budget has them.
    pub fn record(&mut self, max: usize, budget: &Arc<CopyBudget>) {
        self.record = Some(Box::new(Record {
            told: Told {
                bytes: BytesMut::new(),
                budget: Arc::clone(budget),
            },
            past: self.outbox.len(),
            max,
            flushing: false,
            ended: false,
        }));
    }

    /// Ends that, and gives back what the client has been told since, what waits in the outbox included; `None` when it was
    /// too much.
    pub fn recorded(&mut self) -> Option<Told> {
        let mut record = self.record.take()?;
        record.take(&self.outbox);
        (!record.ended).then_some(record.told)
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
        if let Some(record) = &mut self.record {
            record.take(&self.outbox);
            record.flushing = true;
        }
        let written = self.stream.write_from(&mut self.outbox).await;
        if let Some(record) = &mut self.record {
            (record.past, record.flushing) = (0, false);
        }
        written
    }

    /// Gives emptied buffers back; an idle client holds none.
    pub fn rest(&mut self) {
        release(&mut self.inbox);
        release(&mut self.outbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(Stream::Closed, 1024)
    }

    #[test]
    fn only_what_is_told_from_then_on_is_copied() {
        let budget = CopyBudget::new(100);
        let mut client = client();
        client.outbox.extend_from_slice(b"before");
        client.record(10, &budget);
        client.outbox.extend_from_slice(b"told");
        assert_eq!(client.recorded().as_deref(), Some(&b"told"[..]));
        assert!(client.recorded().is_none());
        client.record(3, &budget);
        client.outbox.extend_from_slice(b"told");
        assert!(client.recorded().is_none(), "too much");
    }

    #[test]
    fn copies_are_bounded_together() {
        let budget = CopyBudget::new(10);
        let (mut one, mut two) = (client(), client());
        one.record(8, &budget);
        two.record(8, &budget);
        one.outbox.extend_from_slice(b"12345678");
        two.outbox.extend_from_slice(b"12345678");
        let first = one.recorded();
        assert!(first.is_some());
        assert!(two.recorded().is_none());
        drop(first);
        two.record(8, &budget);
        two.outbox.extend_from_slice(b"90");
        assert!(two.recorded().is_some(), "given back");
    }

    #[tokio::test]
    async fn a_flush_that_is_given_up_ends_the_copy() {
        let budget = CopyBudget::new(100);
        let mut client = client();
        client.record(10, &budget);
        client.outbox.extend_from_slice(b"told");
        if let Some(record) = &mut client.record {
            record.take(b"told");
            record.flushing = true;
        }
        assert!(client.recorded().is_none());
    }
}
