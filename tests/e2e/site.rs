//! A site for the tests: agencies with one leader each, the shipped rules with shorter waiting times, and a real mail
//! server with STARTTLS. What a test watches it adds itself.

use crate::support::certificates::Authority;
use crate::support::mailbox::MailServer;
use crate::support::{encode, free_port, get};
use ioc_watch::demo::site::faster;
use ioc_watch::rules::SHIPPED;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where everything of one test stands.
pub struct Site {
    dir: tempfile::TempDir,
    pub authority: Authority,
    pub mail: MailServer,
    pub port: u16,
    pub rules: Vec<PathBuf>,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(dir.path());
        let mail = MailServer::start(dir.path(), Some(authority.server(dir.path(), "mail", false)));
        std::fs::create_dir_all(dir.path().join("alerts")).expect("a writable directory");
        let rules = SHIPPED.map(|(name, text)| {
            let file = dir.path().join(name);
            std::fs::write(&file, faster(text)).expect("a writable directory");
            file
        });
        Site { authority, mail, port: free_port(), rules: rules.to_vec(), dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ioc-watch.yml")
    }

    /// Writes the configuration of the site with `agencies` (ids), and `rest`: further sections.
    pub fn configure(&self, agencies: &[&str], rest: &str) {
        let mut text = format!(
            "site: {{name: IOC Thăng Bình, agency: ioc}}\nserver: {{listen: '127.0.0.1:{}'}}\ndata_dir: ./data\n\
             history: {{tick: 1s, window: 30m}}\n\
             email: {{smtp: 'smtp+starttls://127.0.0.1:{}', ca_file: ca.pem, from: 'IOC <ioc@vn.example>', \
             retry: {{first: 1s, max: 2s, give_up: 1h}}}}\n",
            self.port, self.mail.port
        );
        let agencies = ["ioc"].iter().chain(agencies);
        let (mut people, mut units) = (String::from("people:\n"), String::from("agencies:\n"));
        for id in agencies {
            let _ = writeln!(people, "  - {{id: lead-{id}, name: Lãnh đạo {id}, email: '{}'}}", leader(id));
            let _ = writeln!(units, "  - {{id: {id}, name: UBND {id}, leader: lead-{id}}}");
        }
        text += &people;
        text += &units;
        text += rest;
        std::fs::write(self.file(), text).expect("a writable directory");
    }
}

/// A section `services` with portals of these ids and this agency, all at `port`.
pub fn services(agency: &str, ids: &[&str], port: u16) -> String {
    ids.iter().fold(String::from("services:\n"), |mut text, id| {
        let _ = writeln!(
            text,
            "  - {{id: {id}, agency: {agency}, kind: portal, every: 1s, http: {{url: 'https://127.0.0.1:{port}/', \
             ca_file: ca.pem}}}}"
        );
        text
    })
}

/// The address of an agency's leader.
pub fn leader(agency: &str) -> String {
    format!("lanhdao@{agency}.vn.example")
}

/// The result of an instant query to the daemon itself.
pub fn query(port: u16, expression: &str) -> Vec<Value> {
    let path = format!("/api/v1/query?query={}", encode(expression));
    let (status, body) = get(port, &path).expect("the daemon answers");
    assert_eq!(status, 200, "{expression}: {body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// The one value of a query, if there is one.
pub fn number(port: u16, expression: &str) -> Option<f64> {
    query(port, expression).first()?["value"][1].as_str()?.parse().ok()
}

/// What an alert is about, without the labels that a scrape adds (instance, job).
pub fn firing(result: &[Value]) -> BTreeSet<String> {
    const LABELS: [&str; 8] = ["alertname", "agency", "severity", "area", "service", "device", "village", "kind"];
    result
        .iter()
        .map(|series| {
            let of = |name: &&str| Some(format!("{name}={}", series["metric"][name].as_str()?));
            LABELS.iter().filter_map(of).collect::<Vec<_>>().join(" ")
        })
        .collect()
}
