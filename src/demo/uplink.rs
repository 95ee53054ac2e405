//! The line to the outside world, played by a loopback port: it accepts connections until the story cuts it.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A line that can be cut; it stops when the token given to [`Uplink::start`] is cancelled.
pub struct Uplink {
    pub address: SocketAddr,
    stands: watch::Sender<bool>,
}

impl Uplink {
    pub async fn start(shutdown: CancellationToken) -> anyhow::Result<Uplink> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stands, watched) = watch::channel(true);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = run(listener, address, watched) => {}
            }
        });
        Ok(Uplink { address, stands })
    }

    pub fn cut(&self) {
        self.stands.send_replace(false);
    }

    pub fn restore(&self) {
        self.stands.send_replace(true);
    }
}

/// While the line stands its port is open; while it is cut, closed.
async fn run(listener: TcpListener, address: SocketAddr, mut stands: watch::Receiver<bool>) {
    let mut open = Some(listener);
    loop {
        let stand = *stands.borrow_and_update();
        if !stand {
            open = None;
        } else if open.is_none() {
            // The port is still ours in all likelihood; if not, the next change tries again.
            open = TcpListener::bind(address).await.ok();
        }
        tokio::select! {
            () = told(&mut stands) => {}
            () = answer(open.as_ref()) => {}
        }
    }
}

/// Until the story cuts or restores the line; when the story is over, for ever.
async fn told(stands: &mut watch::Receiver<bool>) {
    if stands.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Accepts one connection and lets it go.
async fn answer(listener: Option<&TcpListener>) {
    let accepted = match listener {
        Some(listener) => listener.accept().await.map(|_| ()),
        None => std::future::pending().await,
    };
    if accepted.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
