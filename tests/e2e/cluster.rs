//! Two whole daemons on one PostgreSQL, with a real mail server: one leads, the other takes over when it is killed, stands
//! still, loses its database or is stopped. Alerts are posted to both, as Prometheus does to every Alertmanager it knows.
//!
//! `IOC_WATCH_TAKEOVERS` sets the number of rounds of kill -9 and SIGSTOP (2; 20 for a release).

use crate::postgres::Postgres;
use crate::site::{Site, leader, services};
use crate::support::daemon::Daemon;
use crate::support::{free_port, get, post, wait_for};
use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Posted in one round.
const ALERTS: usize = 200;
/// From the death of one daemon to the other's lead.
const TAKEOVER: Duration = Duration::from_secs(15);

struct Cluster {
    site: Site,
    /// One configuration a daemon.
    files: [PathBuf; 2],
    ports: [u16; 2],
    daemons: [Option<Daemon>; 2],
    /// Accepted by a leader.
    accepted: BTreeSet<String>,
    _postgres: Postgres,
}

impl Cluster {
    /// Starts both; the first leads. The database of the first is reached through `way`, if there is one.
    fn start(way: Option<&Way>, postgres: Postgres) -> Cluster {
        let site = Site::new();
        let State::Postgres { url, password } = postgres.database("cluster") else { unreachable!("it is PostgreSQL") };
        std::fs::write(site.dir().join("pg-password"), password.as_ref().map_or("", Secret::expose)).unwrap();
        let ports = [site.port, free_port()];
        let mut files = [site.file(), site.dir().join("second.yml")];
        for n in [1, 0] {
            let url = match way {
                Some(way) if n == 0 => url.replace(&format!(":{}/", postgres.port), &format!(":{}/", way.port)),
                _ => url.clone(),
            };
            site.configure(&["tam-ky"], &rest(&url));
            let text = std::fs::read_to_string(site.file()).unwrap();
            let text = text.replace(&format!("127.0.0.1:{}", ports[0]), &format!("127.0.0.1:{}", ports[n]));
            let text = text.replace("data_dir: ./data", &format!("data_dir: ./data-{n}"));
            std::fs::write(&files[n], text).unwrap();
        }
        files[0] = site.file();
        let mut cluster =
            Cluster { site, files, ports, daemons: [None, None], accepted: BTreeSet::new(), _postgres: postgres };
        cluster.spawn(0);
        cluster.daemon(0).wait_ready();
        cluster.spawn(1);
        cluster.wait_reserve(1);
        cluster
    }

    fn spawn(&mut self, n: usize) {
        let dir = self.site.dir().join(format!("log-{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        self.daemons[n] = Some(Daemon::spawn(&dir, &self.files[n], self.ports[n]));
    }

    fn daemon(&self, n: usize) -> &Daemon {
        self.daemons[n].as_ref().expect("a daemon that was started")
    }

    /// It answers and says that the other leads.
    fn wait_reserve(&self, n: usize) {
        let other = format!(":{} leads.", self.ports[1 - n]);
        wait_for(
            &format!("daemon {n} to stand by; its log:\n{}", self.daemon(n).log()),
            Duration::from_secs(30),
            || get(self.ports[n], "/-/ready").ok().filter(|(status, text)| *status == 503 && text.contains(&other)),
        );
    }

    /// How long it took the daemon to lead.
    fn wait_lead(&self, n: usize) -> Duration {
        let begin = Instant::now();
        self.daemon(n).wait_ready();
        begin.elapsed()
    }

    /// Posts to both, and again to both what neither took.
    fn post(&mut self, alerts: impl Iterator<Item = String>) {
        for service in alerts {
            wait_for(&format!("{service} to be taken"), Duration::from_secs(30), || {
                let taken = self.ports.map(|port| send(port, &service) == Some(200));
                assert!(!(taken[0] && taken[1]), "two lead");
                taken.iter().any(|taken| *taken).then_some(())
            });
            self.accepted.insert(service);
        }
    }

    /// The Message-IDs that arrived, by the service they are about.
    fn arrived(&self) -> BTreeMap<String, Vec<String>> {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for mail in self.site.mail.to(&leader("tam-ky")) {
            let service = mail.body.split_whitespace().find(|word| is_service(word)).unwrap_or("?").to_string();
            seen.entry(service).or_default().push(mail.header("Message-ID").unwrap_or_default());
        }
        seen
    }

    fn wait_mails(&self, count: usize) {
        wait_for(&format!("{count} mails"), Duration::from_secs(120), || (self.arrived().len() >= count).then_some(()));
    }

    /// Every mail arrived, and `repeated` at most a second time, as the same mail.
    fn judge(&self, repeated: usize) -> usize {
        let seen = self.arrived();
        assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), self.accepted);
        let twice: usize = seen.values().map(|ids| ids.len() - 1).sum();
        assert!(twice <= repeated, "{twice} mails came twice, allowed are {repeated}");
        for (service, ids) in &seen {
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "{service}: {ids:?}");
        }
        twice
    }
}

#[test]
fn a_daemon_that_dies_or_stands_still_while_it_sends_is_replaced_and_no_mail_is_lost() {
    let rounds = std::env::var("IOC_WATCH_TAKEOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_usize);
    let mut cluster = Cluster::start(None, Postgres::start());
    refuses_alerts_in_reserve(&cluster);
    for round in 0..rounds {
        let (leads, other) = (round % 2, 1 - round % 2);
        let before = cluster.arrived().len();
        cluster.post((0..ALERTS).map(|n| format!("s{round}-{n}")));
        cluster.wait_mails(before + 10 + (round * 37) % (ALERTS / 2));
        let is_killed = (round + round / 2) % 2 == 0;
        if is_killed {
            cluster.daemons[leads].as_mut().expect("the leader").kill();
        } else {
            cluster.daemon(leads).signal("STOP");
        }
        let took = cluster.wait_lead(other);
        eprintln!(
            "round {round}: {} after {took:?}",
            if is_killed { "killed; taken over" } else { "stopped; taken over" }
        );
        assert!(took <= TAKEOVER, "{took:?}");
        cluster.wait_mails(before + ALERTS);
        if is_killed {
            cluster.spawn(leads);
        } else {
            cluster.daemon(leads).signal("CONT");
        }
        cluster.wait_reserve(leads);
        // Whatever would come twice comes now.
        std::thread::sleep(Duration::from_secs(2));
        eprintln!("{} mails came twice", cluster.judge(round + 1));
    }
    let leads = rounds % 2;
    hands_over_at_once(&mut cluster, leads);
    cluster.judge(rounds);
}

#[test]
fn beside_a_slow_mail_server_a_takeover_loses_no_mail_either() {
    let mut cluster = Cluster::start(None, Postgres::start());
    cluster.site.mail.behave(r#"{"slow": 1}"#);
    cluster.post((0..ALERTS).map(|n| format!("s0-{n}")));
    // The server has many whole, and none of those is noted as sent.
    cluster.wait_mails(1);
    cluster.daemons[0].as_mut().expect("the leader").kill();
    let took = cluster.wait_lead(1);
    cluster.wait_mails(ALERTS);
    std::thread::sleep(Duration::from_secs(2));
    eprintln!("taken over after {took:?}, {} mails came twice", cluster.judge(ALERTS));
    assert!(took <= TAKEOVER, "{took:?}");
}

/// A clean stop.
fn hands_over_at_once(cluster: &mut Cluster, leads: usize) {
    let begin = Instant::now();
    let mut daemon = cluster.daemons[leads].take().expect("the leader");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
    let stopped = begin.elapsed();
    let took = cluster.wait_lead(1 - leads);
    eprintln!("stopped in {stopped:?}, taken over {took:?} later");
    assert!(took <= Duration::from_secs(4), "{took:?}");
    assert_eq!(cluster.daemon(1 - leads).metric("ioc_watch_leader"), Some(1.0));
}

fn refuses_alerts_in_reserve(cluster: &Cluster) {
    assert_eq!(send(cluster.ports[1], "s-refused"), Some(503));
    assert_eq!(cluster.daemon(1).metric("ioc_watch_leader"), Some(0.0));
    assert_eq!(get(cluster.ports[1], "/-/healthy").unwrap().0, 200);
    wait_for("the leader to see the other", Duration::from_secs(10), || {
        cluster.daemon(0).metric("ioc_watch_standbys").filter(|n| *n == 1.0)
    });
}

#[test]
fn a_leader_without_its_database_is_replaced_and_stands_by_when_it_is_back() {
    let postgres = Postgres::start();
    let way = Way::start(postgres.port);
    let mut cluster = Cluster::start(Some(&way), postgres);
    cluster.post((0..20).map(|n| format!("s0-{n}")));
    cluster.wait_mails(5);
    way.cut(true);
    let took = cluster.wait_lead(1);
    eprintln!("cut off; taken over after {took:?}");
    assert!(took <= TAKEOVER, "{took:?}");
    let refused = send(cluster.ports[0], "s1-0");
    assert!(refused != Some(200), "kept without a database: {refused:?}");
    cluster.wait_mails(20);
    wait_for("the cut-off daemon not to say that it leads", Duration::from_secs(20), || {
        cluster.daemon(0).metric("ioc_watch_leader").filter(|leads| *leads == 0.0)
    });
    way.cut(false);
    cluster.wait_reserve(0);
    cluster.post((0..20).map(|n| format!("s1-{n}")));
    cluster.wait_mails(40);
    std::thread::sleep(Duration::from_secs(2));
    cluster.judge(1);
}

#[test]
fn a_second_daemon_on_one_data_directory_is_refused() {
    let site = Site::new();
    let rest = format!("host: false\n{}", services("tam-ky", &["dvc"], free_port()));
    site.configure(&["tam-ky"], &rest);
    let daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let text = std::fs::read_to_string(site.file()).unwrap();
    let second = site.dir().join("second.yml");
    std::fs::write(&second, text.replace(&format!("127.0.0.1:{}", site.port), &format!("127.0.0.1:{}", free_port())))
        .unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .args(["run", "--config"])
        .arg(&second)
        .output()
        .expect("the built program");
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    let expected =
        format!("error: taking up the state: another ioc-watch (process {}) runs on the data directory", daemon.pid());
    assert!(said.contains(&expected), "{said}");
}

fn rest(url: &str) -> String {
    let text = format!(
        "state: {{postgres: '{url}', password_file: pg-password}}\nrules: {{evaluate: external}}\nhost: false\n\
         incidents: {{group_by: [agency, area, service], group_wait: 0s, group_interval: 1s, resolve_timeout: 5h}}\n"
    );
    text + &services("tam-ky", &["dvc"], free_port())
}

/// The answer's status, if there was one.
fn send(port: u16, service: &str) -> Option<u16> {
    let alert = serde_json::json!([{
        "labels": {"alertname": "ServiceDown", "agency": "tam-ky", "area": "service", "severity": "warning",
                   "service": service},
        "annotations": {"summary": format!("Cổng dịch vụ công {service} ngừng hoạt động")},
    }]);
    post(port, "/api/v2/alerts", "application/json", &alert.to_string()).ok().map(|(status, _)| status)
}

fn is_service(word: &str) -> bool {
    let Some((round, n)) = word.strip_prefix('s').and_then(|rest| rest.split_once('-')) else { return false };
    round.parse::<u64>().is_ok() && n.parse::<u64>().is_ok()
}

/// The way to a server, which can be cut.
struct Way {
    port: u16,
    is_cut: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn start(target: u16) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let way = Way { port, is_cut: is_cut.clone(), connections: connections.clone() };
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                connections.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                carry(near.try_clone().unwrap(), far.try_clone().unwrap());
                carry(far, near);
            }
        });
        way
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
