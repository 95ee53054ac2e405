//! Notes when bytes arrive on a connection, so that a deadline can tell silence from slowness.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When bytes arrived on one layer of one connection, in nanoseconds since `started`; 0 is never.
#[derive(Debug)]
pub(super) struct Arrivals {
    started: Instant,
    first: AtomicU64,
    last: AtomicU64,
}

impl Arrivals {
    pub fn new(started: Instant) -> Arc<Arrivals> {
        Arc::new(Arrivals { started, first: AtomicU64::new(0), last: AtomicU64::new(0) })
    }

    /// Since the start of the check.
    pub fn first(&self) -> Option<Duration> {
        read(&self.first)
    }

    /// Since the start of the check.
    pub fn last(&self) -> Option<Duration> {
        read(&self.last)
    }

    fn note(&self) {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        self.last.store(now, Ordering::Relaxed);
        // One task reads; nobody races for the first byte.
        if self.first.load(Ordering::Relaxed) == 0 {
            self.first.store(now, Ordering::Relaxed);
        }
    }
}

fn read(cell: &AtomicU64) -> Option<Duration> {
    match cell.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

/// A stream that tells [`Arrivals`] of what it reads.
pub(super) struct Watched<S> {
    inner: S,
    arrivals: Arc<Arrivals>,
}

impl<S> Watched<S> {
    pub fn new(inner: S, arrivals: Arc<Arrivals>) -> Watched<S> {
        Watched { inner, arrivals }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.arrivals.note(),
            // Many servers end TLS without close_notify. HTTP knows by itself whether the answer was complete.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
            _ => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
