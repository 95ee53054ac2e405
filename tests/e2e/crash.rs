//! kill -9 of the whole daemon between the acceptance of alerts and their mails. `IOC_WATCH_CRASHES` sets the number of
//! kills of each database (10; 200 for a release). `tests/crash.rs` does the same to the incident stage alone, faster.

use crate::postgres::Postgres;
use crate::site::{Site, leader, services};
use crate::support::daemon::Daemon;
use crate::support::{free_port, post, wait_for};
use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Accepted in one life of the daemon.
const ALERTS: u64 = 3;

#[test]
fn kill_9_of_the_whole_daemon_loses_no_mail() {
    loses_no_mail(&State::Sqlite);
}

#[test]
fn kill_9_of_the_whole_daemon_on_postgresql_loses_no_mail() {
    let cluster = Postgres::start();
    loses_no_mail(&cluster.database("crash"));
}

fn loses_no_mail(state: &State) {
    let crashes = std::env::var("IOC_WATCH_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_u64);
    let site = Site::new();
    site.configure(&["tam-ky"], &rest(&site, state));
    let mut accepted = BTreeSet::new();
    // As Prometheus does: what was not answered with 200 is sent again.
    let mut unanswered: Option<String> = None;
    for crash in 0..crashes {
        let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
        let again = unanswered.take();
        for service in again.into_iter().chain((0..ALERTS).map(|n| format!("s{crash}-{n}"))) {
            assert!(send(site.port, &service), "{service}; the daemon's log:\n{}", daemon.log());
            accepted.insert(service);
            // From the commit of an alert to the note that its mail was sent takes some ten milliseconds with TLS.
            std::thread::sleep(Duration::from_micros(random(40_000)));
        }
        let (last, port) = (format!("s{crash}-last"), site.port);
        let sending = std::thread::spawn(move || (send(port, &last), last));
        std::thread::sleep(Duration::from_micros(random(20_000)));
        daemon.kill();
        match sending.join().expect("the sender") {
            (true, last) => _ = accepted.insert(last),
            (false, last) => unanswered = Some(last),
        }
    }
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    if let Some(last) = unanswered {
        assert!(send(site.port, &last));
        accepted.insert(last);
    }
    let missing = |seen: &BTreeMap<String, Vec<String>>| accepted.iter().any(|service| !seen.contains_key(service));
    wait_for("all mails", Duration::from_secs(60), || (!missing(&arrived(&site))).then_some(()));
    // Whatever would come twice comes now.
    std::thread::sleep(Duration::from_secs(2));
    let seen = arrived(&site);
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), accepted);
    let twice = site.mail.mails().len() as u64 - accepted.len() as u64;
    assert!(twice <= crashes, "{twice} mails came twice after {crashes} kills");
    for (service, ids) in &seen {
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "{service}: {ids:?}");
    }
    println!("{crashes} kills, {} alerts, all mails arrived, {twice} twice", accepted.len());
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

fn rest(site: &Site, state: &State) -> String {
    let mut text = String::from(
        "rules: {evaluate: external}\nhost: false\nincidents: {group_by: [agency, area, service], group_wait: 0s, \
         group_interval: 1s, resolve_timeout: 5h}\n",
    );
    if let State::Postgres { url, password } = state {
        std::fs::write(site.dir().join("pg-password"), password.as_ref().map_or("", Secret::expose)).unwrap();
        text += &format!("state: {{postgres: '{url}', password_file: pg-password}}\n");
    }
    text + &services("tam-ky", &["dvc"], free_port())
}

/// Whether the daemon took the alert.
fn send(port: u16, service: &str) -> bool {
    let alert = serde_json::json!([{
        "labels": {"alertname": "ServiceDown", "agency": "tam-ky", "area": "service", "severity": "warning",
                   "service": service},
        "annotations": {"summary": format!("Cổng dịch vụ công {service} ngừng hoạt động")},
    }]);
    post(port, "/api/v2/alerts", "application/json", &alert.to_string()).is_ok_and(|(status, _)| status == 200)
}

/// The Message-IDs that arrived, by the service they are about.
fn arrived(site: &Site) -> BTreeMap<String, Vec<String>> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in site.mail.to(&leader("tam-ky")) {
        // The subject is an encoded word; the text part names the service in ASCII.
        let service = mail.body.split_whitespace().find(|word| is_service(word)).unwrap_or("?").to_string();
        seen.entry(service).or_default().push(mail.header("Message-ID").unwrap_or_default());
    }
    seen
}

fn is_service(word: &str) -> bool {
    let Some((crash, n)) = word.strip_prefix('s').and_then(|rest| rest.split_once('-')) else { return false };
    crash.parse::<u64>().is_ok() && (n == "last" || n.parse::<u64>().is_ok())
}

/// Below `bound`. The seed is that of `IOC_WATCH_SEED`, else the clock's, and is printed: a failed run can be repeated.
fn random(bound: u64) -> u64 {
    static STATE: std::sync::Mutex<Option<u64>> = std::sync::Mutex::new(None);
    let mut state = STATE.lock().expect("no other test panicked while drawing");
    let seed = || {
        let given = std::env::var("IOC_WATCH_SEED").ok().map(|seed| seed.parse().expect("IOC_WATCH_SEED is a number"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()));
        println!("IOC_WATCH_SEED={seed}");
        seed
    };
    // SplitMix64.
    let next = state.unwrap_or_else(seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    *state = Some(next);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound.max(1)
}
