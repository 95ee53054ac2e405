//! Tests of `send.rs` against real servers on this machine.

use super::*;
use crate::config::email::Security;
use crate::config::site::State;
use crate::demo::mail::{self as server, Mailbox};
use crate::mail::{About, Outgoing};
use crate::metrics::Metrics;
use crate::store::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Post {
    outbox: Outbox,
    metrics: Arc<Metrics>,
    mailbox: Mailbox,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Post {
    async fn new() -> Post {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&State::Sqlite, dir.path()).await.unwrap();
        let metrics: Arc<Metrics> = Arc::default();
        let outbox = Outbox::open(store, metrics.clone()).await.unwrap();
        let mailbox = Mailbox::open(&dir.path().join("mail")).unwrap();
        Post { outbox, metrics, mailbox, stop: CancellationToken::new(), _dir: dir }
    }

    async fn enqueue(&self, recipients: &[&str]) {
        let mails: Vec<Outgoing> = recipients
            .iter()
            .enumerate()
            .map(|(number, recipient)| Outgoing {
                thread: format!("{recipient}.{number}"),
                person: "p".into(),
                sender: "ioc@vn.example".into(),
                recipient: format!("{recipient}@vn.example"),
                message_id: format!("<{recipient}.{number}@vn.example>"),
                message: format!("Subject: {recipient}\r\n\r\n.\r\nend"),
                about: About::default(),
                brief: None,
            })
            .collect();
        let mut tx = self.outbox.store().begin().await.unwrap();
        self.outbox.enqueue(&mut tx, &mails, Timestamp::now()).await.unwrap();
        tx.commit().await.unwrap();
        self.outbox.wake();
    }

    fn serve(&self, listener: TcpListener) {
        tokio::spawn(server::run(listener, self.mailbox.clone(), self.stop.clone()));
    }

    fn send(&self, address: SocketAddr, security: Security) {
        let email = Email {
            security,
            host: address.ip().to_string(),
            port: address.port(),
            username: None,
            password: None,
            ca_file: None,
            from: "IOC <ioc@vn.example>".parse().unwrap(),
            templates: None,
            dkim: None,
            limit: None,
            retry: Retry {
                first: Duration::from_millis(20),
                max: Duration::from_secs(600),
                give_up: Duration::from_secs(3_600),
            },
        };
        tokio::spawn(run(self.outbox.clone(), email, self.stop.clone()));
    }

    async fn until_received(&self, count: usize) {
        let mut received = self.mailbox.received();
        let waiting = received.wait_for(|received| *received >= count);
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the mails arrive").unwrap();
    }

    async fn until(&self, result: &str, count: u64) {
        let done = async {
            while self.count(result) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), done).await.expect(result);
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.own.emails.with_label_values(&[result]).get()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others_and_is_kept() {
    crate::install_tls_provider();
    let post = Post::new().await;
    post.mailbox.refuse(Box::new(|to| to.starts_with("gone").then(|| "550 no such user".to_string())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    post.serve(listener);
    post.enqueue(&["a", "gone", "b"]).await;
    post.send(address, Security::Plain);
    post.until_received(2).await;
    post.until("sent", 2).await;
    assert_eq!((post.count("failed"), post.count("retried")), (1, 0));
    let mails = post.mailbox.mails().unwrap();
    assert!(mails[0].contains("Delivered-To: a@vn.example") && mails[0].ends_with("\r\n.\r\nend\r\n"), "{mails:?}");
    let kept: (i64, String) =
        sqlx::query_as("SELECT COUNT(*), MAX(last_error) FROM outbox WHERE gave_up_us IS NOT NULL")
            .fetch_one(post.outbox.store().reader())
            .await
            .unwrap();
    assert!(kept.0 == 1 && kept.1.contains("no such user"), "{kept:?}");
}

#[tokio::test]
async fn mails_of_an_outage_go_when_the_server_is_back() {
    crate::install_tls_provider();
    let post = Post::new().await;
    // A port that refuses: taken, and given back.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    post.enqueue(&["a", "b", "c", "d", "e"]).await;
    post.send(address, Security::Plain);
    post.until("retried", 2).await;
    assert_eq!(post.count("sent"), 0);
    post.serve(TcpListener::bind(address).await.unwrap());
    post.until_received(5).await;
    post.until("sent", 5).await;
    assert_eq!(post.count("failed"), 0);
}

#[tokio::test]
async fn a_mail_that_is_not_taken_now_is_tried_again_by_itself() {
    crate::install_tls_provider();
    let post = Post::new().await;
    let tries = std::sync::atomic::AtomicU32::new(0);
    post.mailbox.refuse(Box::new(move |to| {
        let is_first = to.starts_with("grey") && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        is_first.then(|| "450 greylisted".to_string())
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    post.serve(listener);
    post.enqueue(&["grey", "a"]).await;
    post.send(address, Security::Plain);
    post.until("sent", 2).await;
    assert_eq!((post.count("failed"), post.count("retried")), (0, 1));
    let mails = post.mailbox.mails().unwrap();
    assert!(mails[0].contains("a@vn.example") && mails[1].contains("grey@vn.example"), "{mails:?}");
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_when_tls_is_required() {
    crate::install_tls_provider();
    let post = Post::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    post.serve(listener);
    post.enqueue(&["a"]).await;
    post.send(address, Security::StartTls);
    post.until("retried", 2).await;
    assert_eq!((post.count("sent"), post.mailbox.mails().unwrap().len()), (0, 0));
}

/// A server that takes mails only `n` at a time: it answers none until it has so many whole. It greets `allowed`
/// connections, and closes others at once.
async fn takes_only_together(listener: TcpListener, n: usize, allowed: usize) {
    let (together, room) = (Arc::new(tokio::sync::Barrier::new(n)), Arc::new(tokio::sync::Semaphore::new(allowed)));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (together, room) = (together.clone(), room.clone());
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            let Ok(_place) = room.try_acquire() else {
                write.write_all(b"421 4.7.0 too many connections\r\n").await.unwrap();
                return;
            };
            write.write_all(b"220 slow\r\n").await.unwrap();
            let mut lines = tokio::io::BufReader::new(read).lines();
            let mut is_content = false;
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: &[u8] = match line.as_str() {
                    "." => {
                        is_content = false;
                        together.wait().await;
                        b"250 ok\r\n"
                    }
                    _ if is_content => continue,
                    "DATA" => {
                        is_content = true;
                        b"354 go on\r\n"
                    }
                    _ => b"250 ok\r\n",
                };
                write.write_all(answer).await.unwrap();
            }
        });
    }
}

/// So many mails all reach [`takes_only_together`], and no try of one of them counts as failed.
async fn all_reach(together: usize, allowed: usize, mails: usize) {
    crate::install_tls_provider();
    let post = Post::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(takes_only_together(listener, together, allowed));
    post.enqueue(&vec!["a"; mails]).await;
    post.send(address, Security::Plain);
    post.until("sent", mails as u64).await;
    assert_eq!((post.count("failed"), post.count("retried")), (0, 0), "a connection refused is no try of a mail");
}

#[tokio::test]
async fn a_server_that_does_not_answer_gets_others_meanwhile() {
    all_reach(30, 1_000, 90).await;
}

#[tokio::test]
async fn a_slow_server_that_allows_few_connections_gets_those() {
    all_reach(4, 5, 40).await;
}
