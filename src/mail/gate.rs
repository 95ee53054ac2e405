//! A connection on which the end of what is written can be held back: the server has all of a mail but its last bytes, and so
//! cannot take it yet.

use lettre::transport::smtp::client::AsyncTokioStream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// `<CRLF>.<CRLF>`, which ends a mail (RFC 5321, 4.1.1.4). Of what TLS makes of a mail it is the end of the first record,
/// without which nothing of that can be read.
const HELD_BACK: usize = 5;

/// Holds back the end of what is written to its [`Gated`] while it is closed.
#[derive(Debug, Default, Clone)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    waiting: Option<Waker>,
}

impl Gate {
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    pub fn open(&self) {
        let mut state = self.lock();
        state.is_closed = false;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP connection with a [`Gate`].
#[derive(Debug)]
pub struct Gated {
    stream: TcpStream,
    gate: Gate,
}

impl Gated {
    /// Connects, with an open gate.
    pub async fn connect(host: &str, port: u16) -> io::Result<Gated> {
        let stream = TcpStream::connect((host, port)).await?;
        // The end of a mail must not wait until the server has acknowledged the rest.
        stream.set_nodelay(true)?;
        Ok(Gated { stream, gate: Gate::default() })
    }

    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut passes = bytes.len();
        {
            let mut state = self.gate.lock();
            if state.is_closed && !bytes.is_empty() {
                passes = passes.saturating_sub(HELD_BACK);
                if passes == 0 {
                    state.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        Pin::new(&mut self.stream).poll_write(context, &bytes[..passes])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncTokioStream for Gated {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn all_but_the_end_passes_a_closed_gate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut gated = Gated::connect("127.0.0.1", port).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let gate = gated.gate();
        gate.close();
        let content = format!("{}\r\n.\r\n", "x".repeat(300_000));
        let whole = content.clone();
        let writing = tokio::spawn(async move { gated.write_all(whole.as_bytes()).await.map(|()| gated) });
        let mut heard = vec![0; 300_000];
        server.read_exact(&mut heard).await.unwrap();
        assert!(heard.iter().all(|byte| *byte == b'x'));
        assert!(server.try_read(&mut [0; 8]).is_err(), "nothing more has come");
        assert!(!writing.is_finished());
        gate.open();
        let mut end = [0; 5];
        server.read_exact(&mut end).await.unwrap();
        assert_eq!(&end, b"\r\n.\r\n");
        writing.await.unwrap().unwrap();
    }
}
