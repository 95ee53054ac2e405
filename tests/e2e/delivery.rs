//! The sender and servers that misbehave, on a virtual clock: nothing is lost, nothing comes twice but what was in flight,
//! and everything goes soon after the server takes mails again.

use crate::support::mailbox::{Mail, MailServer};
use ioc_watch::config::site::State;
use ioc_watch::mail::send::{Pause, Sender};
use ioc_watch::mail::{About, Outbox, Outgoing};
use ioc_watch::metrics::Metrics;
use ioc_watch::store::Store;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const BEGIN: i64 = 1_795_000_000;

struct Post {
    outbox: Outbox,
    metrics: Arc<Metrics>,
    sender: Sender,
    /// Milliseconds of 1970.
    clock: Arc<AtomicI64>,
    server: MailServer,
    /// Times the outbox was read.
    passes: u32,
    _dir: tempfile::TempDir,
}

impl Post {
    async fn new(manners: &str) -> Post {
        ioc_watch::install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        let server = MailServer::start_with(dir.path(), manners);
        let store = Store::open(&State::Sqlite, dir.path()).await.unwrap();
        let metrics: Arc<Metrics> = Arc::default();
        let outbox = Outbox::open(store, metrics.clone()).await.unwrap();
        let clock = Arc::new(AtomicI64::new(BEGIN * 1_000));
        let config = format!(
            "site: {{name: IOC, agency: ioc}}\npeople: [{{id: a, name: A, email: a@vn.example}}]\n\
             agencies: [{{id: ioc, name: IOC, leader: a}}]\n\
             email: {{smtp: 'smtp://127.0.0.1:{}', from: ioc@vn.example}}\n",
            server.port
        );
        let file = dir.path().join("ioc-watch.yml");
        std::fs::write(&file, config).unwrap();
        let email = ioc_watch::config::load(&file).unwrap().email.unwrap();
        let now = clock.clone();
        let now = move || Timestamp::from_millisecond(now.load(Ordering::Relaxed)).unwrap();
        let sender = Sender::new(outbox.clone(), &email, now, CancellationToken::new()).unwrap();
        Post { outbox, metrics, sender, clock, server, passes: 0, _dir: dir }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.load(Ordering::Relaxed)).unwrap()
    }

    fn elapsed(&self) -> SignedDuration {
        self.now().duration_since(Timestamp::from_second(BEGIN).unwrap())
    }

    /// Mails of threads `a`, `b` …, numbered in the order written.
    async fn write(&self, threads: &[&str]) {
        let mails: Vec<Outgoing> = threads.iter().enumerate().map(|(number, thread)| mail(thread, number)).collect();
        let mut tx = self.outbox.store().begin().await.unwrap();
        self.outbox.enqueue(&mut tx, &mails, self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Lets the sender work until `until` (seconds since the beginning), or until nothing waits; each pause passes at
    /// once, but for those longer than `at_least` that last as long.
    async fn run(&mut self, until: i64, at_least: Duration) {
        let end = (BEGIN + until) * 1_000;
        while self.clock.load(Ordering::Relaxed) < end {
            self.passes += 1;
            let pause = match self.sender.pass().await.unwrap() {
                Pause::None => continue,
                Pause::Quiet(pause) | Pause::Away(pause) => pause.max(at_least),
            };
            if self.metrics.own.outbox_depth.get() == 0 {
                return;
            }
            let pause = i64::try_from(pause.as_millis()).unwrap();
            self.clock.fetch_add(pause, Ordering::Relaxed);
        }
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.own.emails.with_label_values(&[result]).get()
    }

    /// What arrived: how often each Message-ID did.
    fn arrived(&self) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for mail in self.server.mails() {
            *seen.entry(mail.header("Message-ID").unwrap()).or_default() += 1;
        }
        seen
    }
}

fn mail(thread: &str, number: usize) -> Outgoing {
    let message_id = format!("<{number}.{thread}@vn.example>");
    Outgoing {
        thread: thread.into(),
        person: thread.into(),
        sender: "ioc@vn.example".into(),
        recipient: format!("{thread}@vn.example"),
        message: format!("Message-ID: {message_id}\r\nSubject: {number}\r\n\r\nx\r\n"),
        message_id,
        about: About { agency: "ioc".into(), incident: Some(1) },
        brief: None,
    }
}

/// As many threads as mails.
fn threads(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number}")).collect()
}

fn once(mails: &BTreeMap<String, usize>, count: usize) {
    assert_eq!(mails.len(), count, "none is lost: {mails:?}");
    assert!(mails.values().all(|times| *times == 1), "none comes twice: {mails:?}");
}

const SOON: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_without_a_server_all_mails_go_within_15_seconds() {
    let mut post = Post::new("{}").await;
    post.server.stop();
    let names = threads(50);
    post.write(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    post.run(60, SOON).await;
    assert_eq!((post.count("sent"), post.count("failed")), (0, 0));
    assert!(post.passes < 20, "a server that is away is left alone: asked {} times", post.passes);
    post.server.resume();
    post.run(120, SOON).await;
    once(&post.arrived(), 50);
    assert!(post.elapsed() <= SignedDuration::from_secs(75), "the last after {}", post.elapsed());
    println!("a minute away: the last of 50 mails {} s after the recovery", post.elapsed().as_secs() - 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_days_without_a_server_all_mails_go_and_past_the_bound_they_are_given_up_one_by_one() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut post = Post::new("{}").await;
    post.server.stop();
    let names = threads(50);
    post.write(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Two days and 23 hours, asked once an hour here to be quick.
    post.run(71 * 3_600, HOUR).await;
    assert_eq!((post.count("sent"), post.count("failed")), (0, 0));
    post.server.resume();
    let back = post.elapsed();
    post.run(80 * 3_600, SOON).await;
    once(&post.arrived(), 50);
    assert!(post.elapsed() - back <= SignedDuration::from_secs(15), "{}", post.elapsed() - back);

    post.server.stop();
    post.write(&["late", "later"]).await;
    post.clock.fetch_add(73 * 3_600_000, Ordering::Relaxed);
    post.run(1_000 * 3_600, HOUR).await;
    assert_eq!((post.count("sent"), post.count("failed")), (50, 2));
    let failures = post.outbox.failures(10).await.unwrap();
    let people: Vec<&str> = failures.iter().map(|failure| failure.person.as_str()).collect();
    assert_eq!(people, ["late", "later"], "whoever wrote them learns of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_given_up_at_once_and_holds_nobody_up() {
    let mut post = Post::new(r#"{"refuse": ["gone"]}"#).await;
    post.write(&["a", "gone", "b", "gone", "c"]).await;
    post.run(60, SOON).await;
    once(&post.arrived(), 3);
    assert_eq!((post.count("sent"), post.count("failed"), post.count("retried")), (3, 2, 0));
    let failures = post.outbox.failures(10).await.unwrap();
    let seen: Vec<(&str, &str)> = failures.iter().map(|f| (f.person.as_str(), f.reason.as_str())).collect();
    assert!(
        matches!(seen[..], [("gone", why), ("gone", _)] if why.contains("550") && why.contains("<g…@vn.example>")),
        "{seen:?}"
    );
    assert_eq!(post.elapsed(), SignedDuration::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn greylisted_mails_are_all_put_off_at_once_and_go_as_soon_as_one_may() {
    // Seven tries: for about five minutes of the usual back-off.
    let mut post = Post::new(r#"{"grey": 7}"#).await;
    let names = threads(50);
    post.write(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    post.run(3_600, SOON).await;
    once(&post.arrived(), 50);
    assert_eq!(post.count("failed"), 0);
    let last = post.elapsed();
    assert!(last <= SignedDuration::from_secs(5 + 10 + 20 + 40 + 80 + 160 + 320 + 15), "the last after {last}");
    println!("greylisted seven times: the last of 50 mails after {} s", last.as_secs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_gets_one_mail_at_a_time_in_order() {
    let mut post = Post::new(r#"{"slow": 0.1}"#).await;
    post.write(&["a", "b", "a", "b", "a"]).await;
    post.run(60, SOON).await;
    once(&post.arrived(), 5);
    assert_eq!(order(&post.server.mails(), "a"), [0, 2, 4]);
    assert_eq!(order(&post.server.mails(), "b"), [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_over_a_mail_gets_that_one_again_and_nothing_overtakes_it() {
    for keeps in [true, false] {
        let mut post = Post::new(&format!(r#"{{"hang_up": [2, 4], "keeps": {keeps}}}"#)).await;
        post.write(&["a", "a", "a", "b", "a"]).await;
        post.run(600, SOON).await;
        let arrived = post.arrived();
        assert_eq!(arrived.len(), 5, "none is lost: {arrived:?}");
        let repeats = arrived.values().sum::<usize>() - arrived.len();
        assert_eq!(repeats, if keeps { 2 } else { 0 }, "what it kept and did not answer for: {arrived:?}");
        let mut seen = order(&post.server.mails(), "a");
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 4], "keeps: {keeps}");
    }
}

/// The numbers of a thread's mails as they arrived.
fn order(mails: &[Mail], thread: &str) -> Vec<usize> {
    let of_thread = mails.iter().filter(|mail| mail.recipient == format!("{thread}@vn.example"));
    of_thread.map(|mail| mail.header("Subject").unwrap().parse().unwrap()).collect()
}
