//! The shipped examples start, get ready and stop, with every address turned to loopback.

use crate::support::daemon::Daemon;
use crate::support::{free_port, get, get_as};
use regex::Regex;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn examples_start_and_get_ready() {
    let dir = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    assert!(Command::new("cp").arg("-r").arg(&examples).arg(dir.path()).status().unwrap().success());
    let closed = free_port();
    // Hosts of URLs only: addresses of people stay what they are.
    let host = Regex::new(r"//([a-z]+@)?(?:[a-z0-9.-]+\.example|192\.0\.2\.\d+|127\.0\.0\.1)(?::\d+)?").unwrap();
    for (name, watches) in [("minimal", "ioc_agency_info{agency=\"ioc\""), ("district", "ioc_mqtt_connected{")] {
        let place = dir.path().join("examples").join(name);
        let file = place.join("ioc-watch.yml");
        let port = free_port();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut text = host.replace_all(&text, format!("//${{1}}127.0.0.1:{closed}")).into_owned();
        text = match text.contains("listen:") {
            true => text.replace("listen: 127.0.0.1:9470", &format!("listen: 127.0.0.1:{port}")),
            false => format!("{text}server: {{listen: '127.0.0.1:{port}'}}\n"),
        };
        if !text.contains("data_dir:") {
            text += "data_dir: ./data\n";
        }
        assert!(!text.contains("127.0.0.1:9470"), "{text}");
        std::fs::write(&file, text).unwrap();

        let mut daemon = Daemon::start(&place, &file, port);
        let begin = Instant::now();
        // The example with users lets Prometheus in by its token, and nobody without.
        let token = std::fs::read_to_string(place.join("secrets/prometheus-token")).ok();
        let metrics = || match &token {
            Some(token) => get_as(port, "/metrics", token.trim()),
            None => get(port, "/metrics"),
        };
        let expected = if token.is_some() { 401 } else { 200 };
        assert_eq!(get(port, "/metrics").unwrap().0, expected, "{name}");
        let page = crate::support::wait_for("what it watches", Duration::from_secs(20), || {
            metrics().ok().map(|(_, page)| page).filter(|page| page.contains(watches))
        });
        println!("{name}: {} series after {:.1} s", page.lines().count(), begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        assert!(daemon.stop(), "{name} ends with code 0; its log:\n{}", daemon.log());
        assert!(begin.elapsed() < Duration::from_secs(10), "{name} took {:?} to stop", begin.elapsed());
    }
}
