//! The HTTP port: `/healthz` (the process lives), `/readyz` (it takes clients), `/metrics`.
//!
//! In: a listener, [`Admin`]. Out: answers. Never on a statement's way. At most [`CONNECTIONS_MAX`] connections, each
//! for at most [`CONNECTION_TIME_MAX`].

#[cfg(test)]
mod tests;

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at a time; one more waits in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection older than this is closed, so that slow ones cannot hold the port.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// Whether Keyway takes clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// Not any more.
    Draining,
}

/// What the HTTP port shows.
#[derive(Debug)]
pub struct Admin {
    readiness: AtomicU8,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// Starting.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            readiness: AtomicU8::new(Readiness::Starting as u8),
            metrics,
        })
    }

    /// Changes what `/readyz` answers.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Relaxed);
        self.metrics.set_draining(readiness == Readiness::Draining);
    }

    /// What `/readyz` answers.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Relaxed) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            _ => Readiness::Draining,
        }
    }
}

/// Answers until `stop` is done.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_for(CONNECTION_TIME_MAX, listener, admin, stop).await
}

async fn serve_for(
    time_max: Duration,
    listener: TcpListener,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    let bounded = Bounded {
        time_max,
        listener,
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    axum::serve(bounded, router)
        .with_graceful_shutdown(stop)
        .await
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    match admin.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A listener with a bound.
struct Bounded {
    time_max: Duration,
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        // axum's own accept logs errors and goes on.
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let end = Box::pin(tokio::time::sleep(self.time_max));
        (
            Connection {
                stream,
                end,
                _permit: permit.ok(),
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<tokio::time::Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
