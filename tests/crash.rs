//! kill -9 at random moments between the acceptance of an alert and the delivery of its mail: no mail is lost, and at
//! most the one in flight comes twice, with the same Message-ID.
//!
//! The child is this test binary itself, started again with [`ROLE`] set: it runs the incident stage and the sender,
//! accepts alerts as lines on its standard input and answers each with a line once it is committed. The mail server
//! and the killer are here. `IOC_WATCH_CRASHES` sets the number of kills of each database (20; 200 for a release).

#[path = "support/incidents.rs"]
mod incidents;
#[path = "support/postgres.rs"]
mod postgres;

use incidents::{alert, config, header};
use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use ioc_watch::demo::mail::{self, Mailbox};
use ioc_watch::incident::Incidents;
use ioc_watch::mail::{Outbox, send};
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// Set for the child: `DIR SMTP [POSTGRES_URL PASSWORD]`, separated by line feeds.
const ROLE: &str = "IOC_WATCH_CRASH_CHILD";
/// Alerts of one life of the child.
const ALERTS: u64 = 3;

fn n_crashes() -> u64 {
    std::env::var("IOC_WATCH_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_survives() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    survives(&State::Sqlite, dir.path(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_survives() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let cluster = postgres::Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    survives(&cluster.database("crash"), dir.path(), 2).await;
}

/// Not a test by itself: what the child runs. Without [`ROLE`] there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let parts: Vec<&str> = role.lines().collect();
    let state = match parts.get(2..4) {
        Some([url, password]) => State::Postgres { url: (*url).to_string(), password: Some(Secret::new(*password)) },
        _ => State::Sqlite,
    };
    let dir = Path::new(parts[0]);
    let config = config(dir, parts[1].parse().unwrap(), "0s", "1s", "agency, area, service");
    let store = Store::open(&state, &dir.join("data")).await.unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let now = Timestamp::now();
    let stage = Incidents::resume(store.clone(), outbox.clone(), org, &config, metrics, now).await.unwrap();
    let stage = Arc::new(stage);
    let shutdown = CancellationToken::new();
    let email = config.email.clone().unwrap();
    tokio::spawn(send::run(outbox, email, shutdown.clone()));
    let ticking = stage.clone();
    tokio::spawn(async move { ticking.run(shutdown).await });
    println!("\nREADY");
    let (to_main, mut services) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if to_main.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(service) = services.recv().await {
        let now = Timestamp::now();
        stage.receive(&[alert("tam-ky", "warning", &service, now)], now).await.unwrap();
        println!("ACCEPTED {service}");
    }
}

struct Running {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

async fn start(role: &str) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--quiet"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut running = Running { child, input, output };
    running.until("READY").await;
    running
}

impl Running {
    async fn until(&mut self, wanted: &str) {
        let waiting = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line == wanted {
                    return;
                }
            }
            panic!("the child ended before it said {wanted}");
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the child answers");
    }
}

async fn survives(state: &State, dir: &Path, seed: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let smtp: SocketAddr = listener.local_addr().unwrap();
    let mailbox = Mailbox::open(&dir.join("mail")).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(mail::run(listener, mailbox.clone(), stop.clone()));
    let role = match state {
        State::Sqlite => format!("{}\n{smtp}", dir.display()),
        State::Postgres { url, password } => {
            format!("{}\n{smtp}\n{url}\n{}", dir.display(), password.as_ref().map_or("", Secret::expose))
        }
    };
    let mut accepted = BTreeSet::new();
    let mut random = Random(seed);
    let crashes = n_crashes();
    for crash in 0..crashes {
        let mut running = start(&role).await;
        for n in 0..ALERTS {
            let service = format!("s{crash}-{n}");
            running.input.write_all(format!("{service}\n").as_bytes()).await.unwrap();
            running.until(&format!("ACCEPTED {service}")).await;
            accepted.insert(service);
            // From the commit of the alert to the note that its mail was sent is a matter of milliseconds.
            tokio::time::sleep(Duration::from_micros(random.below(6_000))).await;
        }
        // SIGKILL.
        running.child.kill().await.unwrap();
    }
    let last = start(&role).await;
    let mut received = mailbox.received();
    let all = async {
        while services(&mailbox).len() < accepted.len() {
            received.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("every mail arrives");
    // Whatever would come twice comes now.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(last);
    stop.cancel();
    server.await.unwrap().unwrap();

    let seen = services(&mailbox);
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), accepted);
    let twice = mailbox.mails().unwrap().len() as u64 - accepted.len() as u64;
    assert!(twice <= crashes, "{twice} mails came twice after {crashes} kills");
    for (service, ids) in &seen {
        let distinct: BTreeSet<&String> = ids.iter().collect();
        // One mail may be the one in flight at several kills in a row; it is the same mail each time.
        assert_eq!(distinct.len(), 1, "{service}: {ids:?}");
    }
    println!("{crashes} kills, {} alerts, all mails arrived, {twice} twice", accepted.len());
}

/// The Message-IDs that arrived, by the service they are about.
fn services(mailbox: &Mailbox) -> BTreeMap<String, Vec<String>> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in mailbox.mails().unwrap() {
        // The subject is an encoded word; the text part names the service in ASCII.
        let service = mail.split_whitespace().find(|word| is_service(word)).unwrap_or("?").to_string();
        seen.entry(service).or_default().push(header(&mail, "Message-ID"));
    }
    seen
}

fn is_service(word: &str) -> bool {
    let Some((crash, n)) = word.strip_prefix('s').and_then(|rest| rest.split_once('-')) else { return false };
    crash.parse::<u64>().is_ok() && n.parse::<u64>().is_ok()
}

/// Numbers that differ from kill to kill and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
        let mut x = self.0;
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        x % bound
    }
}
