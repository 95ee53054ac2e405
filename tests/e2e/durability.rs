//! The disk is full, the database is locked, PostgreSQL is restarted, the time zone changes: no mail is lost, none comes
//! twice. What could not be kept is answered with 5xx, so that its sender posts again; the daemon's own alerts are
//! tried again at the next evaluation.

use crate::postgres::Postgres;
use crate::site::{Site, leader};
use crate::support::daemon::Daemon;
use crate::support::{free_port, post, wait_for};
use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the database is locked; longer than a transaction waits for it.
const LOCKED: Duration = Duration::from_secs(30);
/// One rule of the daemon's own.
const RULES: &str = "groups: [{name: own, interval: 1s, rules: [{alert: PortalDown, expr: ioc_service_up == 0, labels: \
                     {severity: warning, area: service}, annotations: {summary: 'Cổng {{ $labels.service }} ngừng', summary_en: \
                     '{{ $labels.service }} is down', description: x, description_en: x, runbook: x}}]}]\n";

/// A site with one portal, whose rule and whose posted alerts make mails to one leader.
struct House {
    site: Site,
    portal: Portal,
    daemon: Daemon,
    accepted: BTreeSet<String>,
}

impl House {
    fn start(site: Site, more: &str) -> House {
        let portal = Portal::start();
        std::fs::write(site.dir().join("own.yml"), RULES).unwrap();
        let rest = format!(
            "{more}rules: {{files: [own.yml]}}\nhost: false\nincidents: {{group_by: [agency, area, service], group_wait: 0s, \
             group_interval: 1s, resolve_timeout: 5h}}\nservices:\n  - {{id: p0-0, agency: tam-ky, kind: portal, every: 1s, \
             timeout: 1s, http: {{url: 'http://127.0.0.1:{}/'}}}}\n",
            portal.port
        );
        site.configure(&["tam-ky"], &rest);
        let daemon = Daemon::start(site.dir(), &site.file(), site.port);
        House { site, portal, daemon, accepted: BTreeSet::new() }
    }

    /// Posts an alert; the status, if there was an answer in time.
    fn post(&mut self, service: &str) -> Option<u16> {
        let alert = serde_json::json!([{
            "labels": {"alertname": "ServiceDown", "agency": "tam-ky", "area": "service", "severity": "warning",
                       "service": service},
            "annotations": {"summary": format!("Cổng dịch vụ công {service} ngừng hoạt động")},
        }]);
        let answer = post(self.site.port, "/api/v2/alerts", "application/json", &alert.to_string());
        let status = answer.ok().map(|(status, _)| status);
        if status == Some(200) {
            self.accepted.insert(service.to_string());
        }
        status
    }

    /// As a sender does that was answered with 5xx.
    fn post_until_taken(&mut self, service: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.post(service) != Some(200) {
            assert!(Instant::now() < deadline, "{service} is not taken; the log:\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn portal_fails(&mut self) {
        self.portal.works.store(false, Ordering::SeqCst);
        self.accepted.insert("p0-0".into());
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

    /// One mail about each alert that was taken, and no other.
    fn judge(&self) {
        wait_for(&format!("all mails; the log:\n{}", self.daemon.log()), Duration::from_secs(60), || {
            let seen = self.arrived();
            self.accepted.iter().all(|service| seen.contains_key(service)).then_some(())
        });
        // Whatever would come twice comes now.
        std::thread::sleep(Duration::from_secs(2));
        let seen = self.arrived();
        assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), self.accepted);
        for (service, ids) in &seen {
            assert_eq!(ids.len(), 1, "{service}: {ids:?}");
        }
    }
}

#[test]
fn a_full_disk_loses_no_alert() {
    let site = Site::new();
    let data = site.dir().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here (it takes root), so no disk is filled");
        return;
    };
    let mut house = House::start(site, "");
    house.post_until_taken("s0-0");
    wait_for("the first mail", Duration::from_secs(20), || house.arrived().contains_key("s0-0").then_some(()));
    disk.fill();
    // Some room may be left inside the database's files.
    let mut refused = Vec::new();
    for n in 1..400 {
        let service = format!("s0-{n}");
        match house.post(&service) {
            Some(200) => {}
            Some(status) => {
                assert!(status >= 500, "{status}");
                refused.push(service);
            }
            None => refused.push(service),
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert_eq!(refused.len(), 3, "the disk was never full");
    eprintln!("{} alerts taken before the disk was full, then {refused:?} refused", house.accepted.len());
    // Nor can the rule's own alert be kept; it must not be lost either.
    house.portal_fails();
    std::thread::sleep(Duration::from_secs(4));
    assert!(!house.arrived().contains_key("p0-0"), "mailed without being kept");
    disk.free();
    for service in refused {
        house.post_until_taken(&service);
    }
    house.judge();
    let restarts = house.daemon.metric("ioc_watch_task_restarts_total{task=\"web\"}");
    assert_eq!(restarts, Some(0.0), "the log:\n{}", house.daemon.log());
    assert!(house.daemon.stop(), "a clean end; its log:\n{}", house.daemon.log());
}

#[test]
fn a_locked_database_loses_no_alert() {
    let mut house = House::start(Site::new(), "");
    house.post_until_taken("s0-0");
    wait_for("the first mail", Duration::from_secs(20), || house.arrived().contains_key("s0-0").then_some(()));
    let lock = Lock::take(&house.site.dir().join("data/state.db"));
    house.portal_fails();
    let begin = Instant::now();
    let first = house.post("s0-1");
    assert!(first.is_none_or(|status| status >= 500), "kept without being written: {first:?}");
    eprintln!("answered {first:?} after {:?}", begin.elapsed());
    lock.release();
    assert!(begin.elapsed() >= LOCKED - Duration::from_secs(3), "it was locked for {:?} only", begin.elapsed());
    house.post_until_taken("s0-1");
    house.judge();
    assert!(house.daemon.stop(), "a clean end; its log:\n{}", house.daemon.log());
}

#[test]
fn a_postgresql_that_is_restarted_loses_no_alert() {
    let mut postgres = Postgres::start();
    let State::Postgres { url, password } = postgres.database("restarted") else { unreachable!("it is PostgreSQL") };
    let site = Site::new();
    std::fs::write(site.dir().join("pg-password"), password.as_ref().map_or("", Secret::expose)).unwrap();
    let mut house = House::start(site, &format!("state: {{postgres: '{url}', password_file: pg-password}}\n"));
    for round in 0..3 {
        house.post_until_taken(&format!("s{round}-0"));
        // At once: the mail of the one before may be in any state.
        postgres.stop();
        let refused = house.post(&format!("s{round}-1"));
        assert!(refused.is_none_or(|status| status >= 500), "kept without a database: {refused:?}");
        if round == 1 {
            house.portal_fails();
            std::thread::sleep(Duration::from_secs(3));
        }
        postgres.resume();
        house.post_until_taken(&format!("s{round}-1"));
        wait_for("the lead to be renewed", Duration::from_secs(15), || {
            house.daemon.metric("ioc_watch_leader").filter(|leads| *leads == 1.0)
        });
    }
    house.judge();
    assert!(house.daemon.stop(), "a clean end; its log:\n{}", house.daemon.log());
}

#[test]
fn another_time_zone_after_a_reload_mails_nothing_twice() {
    let mut house = House::start(Site::new(), "");
    house.portal_fails();
    house.post_until_taken("s0-0");
    house.judge();
    let text = std::fs::read_to_string(house.site.file()).unwrap();
    for zone in ["America/New_York", "Pacific/Kiritimati", "Asia/Ho_Chi_Minh"] {
        let moved = text.replace("agency: ioc}", &format!("agency: ioc, timezone: {zone}}}"));
        std::fs::write(house.site.file(), moved).unwrap();
        let (status, said) = post(house.site.port, "/-/reload", "text/plain", "").expect("an answer");
        assert_eq!(status, 200, "{said}");
        let service = format!("s0-{}", zone.len());
        house.post_until_taken(&service);
        house.judge();
    }
    house.portal.works.store(true, Ordering::SeqCst);
    wait_for("the end to be told", Duration::from_secs(20), || {
        house.arrived().get("p0-0").filter(|ids| ids.len() == 2).cloned()
    });
    assert!(house.daemon.stop(), "a clean end; its log:\n{}", house.daemon.log());
}

fn is_service(word: &str) -> bool {
    let rest = word.strip_prefix('s').or_else(|| word.strip_prefix('p'));
    let Some((round, n)) = rest.and_then(|rest| rest.split_once('-')) else { return false };
    round.parse::<u64>().is_ok() && n.parse::<u64>().is_ok()
}

/// Answers every request with 200 while it works, else with 503.
struct Portal {
    port: u16,
    works: Arc<AtomicBool>,
}

impl Portal {
    fn start() -> Portal {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let works = Arc::new(AtomicBool::new(true));
        let seen = works.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 4096]);
                let status = if seen.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Portal { port, works }
    }
}

/// A file system of some megabytes, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing may be mounted.
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| SmallDisk(at.to_path_buf()))
    }

    /// To the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon may still be about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Another connection that holds SQLite's write lock.
struct Lock(std::process::Child);

impl Lock {
    fn take(database: &Path) -> Lock {
        let program = format!(
            "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
             c.execute('BEGIN IMMEDIATE')\nprint('locked', flush=True)\ntime.sleep({})\nc.execute('ROLLBACK')\n",
            LOCKED.as_secs()
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &program])
            .arg(database)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut said = [0; 7];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("the lock");
        assert_eq!(&said, b"locked\n");
        Lock(child)
    }

    /// Waits until it is given back.
    fn release(mut self) {
        assert!(self.0.wait().expect("its end").success());
    }
}
