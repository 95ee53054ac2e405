//! Tests of `webhook.rs` against real HTTP servers on this machine.

use super::*;
use crate::config::Secret;
use crate::config::email::Retry;
use crate::config::site::State;
use crate::mail::About;
use crate::metrics::Metrics;
use crate::store::Store;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

const SECRET: &str = "bí mật của webhook";

/// What a receiver got: the headers and the body.
type Got = Arc<Mutex<Vec<(HeaderMap, String)>>>;

struct House {
    outbox: Outbox,
    metrics: Arc<Metrics>,
    clock: Arc<AtomicI64>,
    got: Got,
    /// What the receiver answers, in turn; then 204.
    answers: Arc<Mutex<Vec<u16>>>,
    sender: Sender,
    _dir: tempfile::TempDir,
}

impl House {
    async fn new(answers: &[u16]) -> House {
        crate::install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&State::Sqlite, dir.path()).await.unwrap();
        let metrics: Arc<Metrics> = Arc::default();
        let outbox = Outbox::open(store, metrics.clone()).await.unwrap();
        let (got, answers) = (Got::default(), Arc::new(Mutex::new(answers.to_vec())));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ioc?x=1", listener.local_addr().unwrap());
        let (keep, say) = (got.clone(), answers.clone());
        let receiver = Router::new()
            .route(
                "/ioc",
                post(async move |headers: HeaderMap, body: Bytes| {
                    keep.lock().unwrap().push((headers, String::from_utf8(body.to_vec()).unwrap()));
                    let mut say = say.lock().unwrap();
                    let code = if say.is_empty() { 204 } else { say.remove(0) };
                    (StatusCode::from_u16(code).unwrap(), [("location", "/elsewhere")])
                }),
            )
            .route("/elsewhere", post(async || StatusCode::GONE));
        tokio::spawn(async move { axum::serve(listener, receiver).await });
        let clock = Arc::new(AtomicI64::new(1_795_000_000));
        let now = clock.clone();
        let now = move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap();
        let sender = Sender::new(outbox.clone(), webhook(&url), now);
        House { outbox, metrics, clock, got, answers, sender, _dir: dir }
    }

    async fn write(&self, threads: &[&str]) {
        let calls: Vec<Call> = threads.iter().enumerate().map(|(number, thread)| call(thread, number)).collect();
        let now = Timestamp::from_second(self.clock.load(Ordering::Relaxed)).unwrap();
        let mut tx = self.outbox.store().begin().await.unwrap();
        self.outbox.enqueue_calls(&mut tx, &calls, now).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Lets the sender work for so many seconds; pauses pass at once.
    async fn run(&mut self, seconds: i64) {
        let end = self.clock.load(Ordering::Relaxed) + seconds;
        while self.clock.load(Ordering::Relaxed) < end {
            let pause = self.sender.pass().await.unwrap();
            let waits = self.outbox.next_due_on(Channel::Webhook("zalo")).await.unwrap();
            if waits.is_none() {
                return;
            }
            self.clock.fetch_add(i64::try_from(pause.as_secs_f64().ceil() as u64).unwrap(), Ordering::Relaxed);
        }
    }

    fn bodies(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.own.webhooks.with_label_values(&["zalo", result]).get()
    }
}

fn webhook(url: &str) -> Webhook {
    Webhook {
        id: crate::config::Id::parse("zalo").unwrap(),
        url: url.parse().unwrap(),
        secret: Secret::new(SECRET),
        matchers: Vec::new(),
        timeout: Duration::from_millis(500),
        ca_file: None,
        retry: Retry {
            first: Duration::from_secs(5),
            max: Duration::from_secs(600),
            give_up: Duration::from_secs(3_600),
        },
    }
}

fn call(thread: &str, number: usize) -> Call {
    Call {
        webhook: "zalo".into(),
        thread: thread.into(),
        id: format!("{thread}.{number}"),
        body: format!("{{\"n\":{number},\"vi\":\"Sự cố\"}}"),
        about: About { agency: "ioc".into(), incident: Some(1) },
    }
}

#[tokio::test]
async fn a_message_is_signed_so_that_its_receiver_can_tell() {
    let mut house = House::new(&[]).await;
    house.write(&["a"]).await;
    house.run(60).await;
    let got = house.got.lock().unwrap().clone();
    let [(headers, body)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(body, "{\"n\":0,\"vi\":\"Sự cố\"}");
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!((header("webhook-id"), header("content-type")), ("a.0", "application/json"));
    assert_eq!(header("webhook-timestamp"), "1795000000");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, format!("a.0.1795000000.{body}").as_bytes(), &signature).unwrap();
    assert!(hmac::verify(&key, format!("a.0.1795000001.{body}").as_bytes(), &signature).is_err());
    assert_eq!((house.count("sent"), house.count("retried")), (1, 0));
}

#[test]
fn the_key_is_the_secret_or_what_its_base64_says() {
    // The key of the standard's own example.
    assert_eq!(key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").len(), 24);
    assert_eq!(key("plain secret"), b"plain secret");
    assert_eq!(key("whsec_*"), b"whsec_*", "what is no base64 is a secret that begins so");
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_with_the_same_id_and_order_is_kept() {
    let mut house = House::new(&[503, 302, 401, 204]).await;
    house.write(&["a", "a", "b"]).await;
    house.run(600).await;
    let ids: Vec<String> = {
        let got = house.got.lock().unwrap();
        got.iter().map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned()).collect()
    };
    let taken: Vec<&String> = ids.iter().skip(3).collect();
    assert_eq!(taken.len(), 3, "{ids:?}");
    let place = |id: &str| taken.iter().position(|taken| *taken == id).unwrap();
    assert!(place("a.0") < place("a.1") && place("b.2") < 3, "{ids:?}");
    assert_eq!((house.count("sent"), house.count("retried"), house.count("failed")), (3, 3, 0));
    assert!(house.answers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_can_never_be_taken_is_given_up_and_holds_nothing_up() {
    let mut house = House::new(&[422]).await;
    house.write(&["a", "a"]).await;
    house.run(60).await;
    assert_eq!(house.bodies().len(), 2);
    assert_eq!((house.count("sent"), house.count("failed")), (1, 1));
    let failures = house.outbox.failures(10).await.unwrap();
    assert_eq!((failures[0].person.as_str(), failures[0].reason.as_str()), ("webhook:zalo", "answered 422"));
}

#[tokio::test]
async fn a_receiver_that_is_away_gets_everything_later_and_past_the_bound_nothing() {
    let mut house = House::new(&[]).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (open, now) = (house.sender.webhook.url.clone(), house.clock.clone());
    let now = move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap();
    house.sender = Sender::new(house.outbox.clone(), webhook(&format!("http://{closed}/")), now.clone());
    house.write(&["a", "b", "c"]).await;
    house.run(1_800).await;
    assert_eq!((house.count("sent"), house.count("failed")), (0, 0));
    assert!(house.count("retried") < 60, "asked {} times in half an hour", house.count("retried"));
    house.sender = Sender::new(house.outbox.clone(), webhook(open.as_str()), now.clone());
    let begin = house.clock.load(Ordering::Relaxed);
    house.run(1_000).await;
    assert_eq!(house.count("sent"), 3);
    assert!(house.clock.load(Ordering::Relaxed) - begin <= 61);

    house.sender = Sender::new(house.outbox.clone(), webhook(&format!("http://{closed}/")), now);
    house.write(&["d"]).await;
    house.run(10_000).await;
    assert_eq!((house.count("sent"), house.count("failed")), (3, 1));
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_not_waited_for() {
    let mut house = House::new(&[]).await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", mute.local_addr().unwrap());
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    house.sender = Sender::new(house.outbox.clone(), webhook(&url), move || now);
    house.write(&["a"]).await;
    let begin = std::time::Instant::now();
    house.sender.pass().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(house.count("retried"), 1);
}

#[tokio::test]
async fn messages_to_a_webhook_that_was_taken_out_are_given_up() {
    let house = House::new(&[]).await;
    house.write(&["a"]).await;
    house.outbox.give_up_others(&["zalo"], Timestamp::now(), GONE).await.unwrap();
    assert_eq!(house.outbox.failures(10).await.unwrap(), []);
    house.outbox.give_up_others(&[], Timestamp::now(), GONE).await.unwrap();
    assert_eq!(house.outbox.failures(10).await.unwrap()[0].reason, GONE);
}
