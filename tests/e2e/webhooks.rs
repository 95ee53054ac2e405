//! A program that is told of an incident over HTTPS, written with another implementation (Python's) of TLS, HTTP and
//! HMAC, which refuses what is not signed as documented.

use crate::site::{Site, services};
use crate::support::daemon::Daemon;
use crate::support::{Process, free_port, get, post, wait_for, wait_for_port};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SECRET: &str = "bí mật dài hơn mười sáu ký tự";

/// Keeps what is signed as JSON lines; the first request is answered 503, as a receiver that is being restarted does.
const RECEIVER: &str = r#"
import base64, hashlib, hmac, http.server, json, ssl, sys, time
port, certificate, key, secret, kept = int(sys.argv[1]), *sys.argv[2:6]
seen = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global seen
        body = self.rfile.read(int(self.headers["content-length"]))
        message = b".".join([self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), body])
        expected = "v1," + base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()
        fresh = abs(time.time() - int(self.headers["webhook-timestamp"])) < 300
        signed = hmac.compare_digest(expected, self.headers["webhook-signature"]) and fresh
        seen += 1
        code = 503 if seen == 1 else 204 if signed else 422
        if code == 204:
            with open(kept, "a") as file:
                file.write(json.dumps({"id": self.headers["webhook-id"], "body": json.loads(body)}) + "\n")
        self.send_response(code)
        self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

fn kept(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_program_is_told_what_people_are_told_and_can_tell_who_says_so() {
    let site = Site::new();
    let (port, file) = (free_port(), site.dir().join("told.jsonl"));
    let (certificate, key) = site.authority.server(site.dir(), "hook", false);
    let receiver = Command::new("/usr/bin/python3")
        .args(["-c", RECEIVER, &port.to_string()])
        .args([&certificate, &key])
        .arg(SECRET)
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .expect("python3");
    let _receiver = Process(receiver);
    wait_for_port("the receiver", port);
    std::fs::write(site.dir().join("hook-secret"), SECRET).unwrap();
    let rest = format!(
        "rules: {{evaluate: external}}\nhost: false\n\
         incidents: {{group_by: [agency, area, service], group_wait: 0s, group_interval: 1s}}\n\
         webhooks:\n  - {{id: zalo, url: 'https://127.0.0.1:{port}/ioc', secret_file: hook-secret, ca_file: ca.pem, \
         match: ['severity=\"critical\"'], retry: {{first: 1s, max: 2s, give_up: 1h}}}}\n{}",
        services("tam-ky", &["dvc"], free_port())
    );
    site.configure(&["tam-ky"], &rest);
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let send = |service: &str, severity: &str, ends: Option<&str>| {
        let alert = json!([{
            "labels": {"alertname": "ServiceDown", "agency": "tam-ky", "area": "service", "severity": severity,
                       "service": service},
            "annotations": {"summary": format!("Cổng {service} ngừng hoạt động")},
            "endsAt": ends,
        }]);
        let answer = post(site.port, "/api/v2/alerts", "application/json", &alert.to_string()).unwrap();
        assert_eq!(answer.0, 200, "{}", answer.1);
    };
    send("khac", "warning", None);
    send("dvc", "critical", None);
    let first = wait_for("the first message", Duration::from_secs(30), || kept(&file).into_iter().next());
    send("dvc", "critical", Some(&jiff::Timestamp::now().to_string()));
    let all = wait_for("the end", Duration::from_secs(30), || {
        let all = kept(&file);
        all.iter().any(|message| message["body"]["event"] == "resolved").then_some(all)
    });
    let body = &first["body"];
    assert_eq!((&body["version"], &body["event"]), (&json!(1), &json!("broken")), "{body}");
    let incident = &body["incident"];
    assert_eq!((&incident["agency"], &incident["severity"]), (&json!("tam-ky"), &json!("critical")), "{body}");
    assert_eq!(incident["agencyName"], "UBND tam-ky");
    assert!(incident["url"].as_str().unwrap().ends_with(&format!("/incidents/{}", incident["id"])), "{body}");
    assert_eq!(body["told"], json!(["lead-tam-ky"]));
    assert_eq!(
        (&body["alerts"][0]["state"], &body["alerts"][0]["labels"]["service"]),
        (&json!("firing"), &json!("dvc"))
    );
    let last = &all.last().unwrap()["body"];
    assert!(last["incident"]["resolvedAt"].is_string() && last["alerts"][0]["state"] == "resolved", "{last}");
    // What it does not match is not told, and nothing came twice.
    assert!(all.iter().all(|message| message["body"]["incident"]["id"] == incident["id"]), "{all:?}");
    let mut ids: Vec<&Value> = all.iter().map(|message| &message["id"]).collect();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "{all:?}");
    let sent = daemon.metric("ioc_webhook_messages_total{webhook=\"zalo\",result=\"sent\"}");
    let sent = sent.or_else(|| daemon.metric("ioc_webhook_messages_total{result=\"sent\",webhook=\"zalo\"}"));
    assert!(sent.is_some_and(|sent| sent >= 2.0), "{sent:?}");
    let (_, page) = get(site.port, "/metrics").unwrap();
    assert!(!page.contains(SECRET) && !daemon.log().contains(SECRET), "the secret stays where it is");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
