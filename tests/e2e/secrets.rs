//! The secrets of a journey appear nowhere, however the server throws them back: not in the log, on any page, in the API,
//! the metrics, the mails or the state database, in any spelling.

use crate::site::{Site, leader, number};
use crate::support::daemon::Daemon;
use crate::support::{get, wait_for};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const FILE_SECRET: &str = "Mật khẩu/7&\"q\"=+";
const ENVIRONMENT_SECRET: &str = "env-s3cret-0815";

/// Answers each request with a page, header, redirect or JSON that repeats all it was told.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
                let mut said = Vec::new();
                let _ = (&mut stream).take(64 * 1024).read_to_end(&mut said);
                let said = String::from_utf8_lossy(&said).into_owned();
                let path = said.split_whitespace().nth(1).unwrap_or("/").to_owned();
                let body = said.lines().last().unwrap_or_default().to_owned();
                let answer = match path.split('?').next().unwrap_or_default() {
                    "/fine" => page("200 OK", "", &said),
                    // To a host of that name: why it cannot be reached would say it.
                    "/away" => {
                        let token = said
                            .lines()
                            .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-token: ").map(str::to_owned));
                        let token = token.unwrap_or_default();
                        page("302 Found", &format!("Location: https://{token}.invalid/{token}?{path}\r\n"), &said)
                    }
                    "/garbage" => format!("{body} is no status line {said}"),
                    _ => {
                        page(&format!("500 {}", body.replace(['\r', '\n'], " ")), &format!("X-Echo: {body}\r\n"), &said)
                    }
                };
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    port
}

fn page(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The spellings that protocols and formats give a secret.
fn spellings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let json = serde_json::to_string(secret).unwrap();
    let html = secret.replace('&', "&amp;").replace('"', "&quot;");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.into(),
        form,
        percent,
        json.trim_matches('"').into(),
        html,
        hex,
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
    ]
}

fn search(what: &str, text: &str) {
    for secret in [FILE_SECRET, ENVIRONMENT_SECRET] {
        for spelling in spellings(secret) {
            let at = text.find(&spelling);
            assert!(
                at.is_none(),
                "{what} has {spelling}: …{:?}…",
                at.and_then(|at| text.get(at.saturating_sub(80)..at))
            );
        }
    }
}

fn search_files(dir: &Path, skip: &[&str]) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if skip.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            searched += search_files(&path, skip);
        } else if let Ok(bytes) = std::fs::read(&path) {
            search(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
            searched += 1;
        }
    }
    searched
}

#[test]
fn journey_secrets_appear_nowhere() {
    let site = Site::new();
    let port = echo();
    let secret_file = site.dir().join("citizen-password");
    std::fs::write(&secret_file, format!("{FILE_SECRET}\n")).unwrap();
    std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut services = String::new();
    let carry = "form: {password: '{{secret.citizen}}', token: '${PROBE_TOKEN}'}, headers: {X-Token: '${PROBE_TOKEN}'}";
    for (id, path, expectation) in [
        ("status", "/fails", ""),
        ("content", "/fine", ", body_contains: 'not {{secret.citizen}} there'"),
        ("json", "/fine", ", json_path: {/password: '{{secret.citizen}}'}"),
        ("capture", "/fine", ", capture: {code: /none}"),
        ("away", "/away", ""),
        ("garbage", "/garbage", ""),
    ] {
        services.push_str(&format!(
            "  - {{id: {id}, agency: tam-ky, kind: portal, every: 1s, journey: {{\
             secrets: {{citizen_file: citizen-password}}, steps: [{{name: gửi, \
             post: 'http://127.0.0.1:{port}{path}?p={{{{secret.citizen}}}}', {carry}{expectation}}}]}}}}\n"
        ));
    }
    site.configure(
        &["tinh", "tam-ky"],
        &format!("rules: {{files: ['alerts/*.yml']}}\nincidents: {{group_wait: 2s, group_interval: 2s}}\nservices:\n{services}"),
    );
    let file = std::fs::read_to_string(site.file()).unwrap();
    assert!(!file.contains(ENVIRONMENT_SECRET));
    let mut daemon = Daemon::start_with(site.dir(), &site.file(), site.port, &[("PROBE_TOKEN", ENVIRONMENT_SECRET)]);
    wait_for("every journey to break", Duration::from_secs(60), || {
        number(site.port, "sum(ioc_service_step_failed)").filter(|sum| *sum == 6.0)
    });
    site.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(60));

    for path in [
        "/",
        "/?lang=en",
        "/incidents",
        "/incidents/1",
        "/status",
        "/metrics",
        "/maintenance",
        "/api/ioc/v1/services",
        "/api/ioc/v1/incidents",
        "/api/v2/alerts",
        "/api/ioc/v1/availability?from=2020-01-01&to=2100-01-01",
        "/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D",
    ] {
        let (_, body) = get(site.port, path).unwrap();
        search(path, &body);
    }
    for id in ["status", "content", "json", "capture", "away", "garbage"] {
        for format in ["text", "json"] {
            let output = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
                .args(["probe", "--service", id, "--format", format, "--config"])
                .arg(site.file())
                .env("PROBE_TOKEN", ENVIRONMENT_SECRET)
                .output()
                .unwrap();
            let shown = [output.stdout, output.stderr].concat();
            assert!(String::from_utf8_lossy(&shown).contains("gửi"), "{id}: names the step");
            search(&format!("probe of {id}"), &String::from_utf8_lossy(&shown));
        }
    }
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
    assert!(daemon.log().contains("gửi"), "the log names the step");
    // Log, mails, state database, reports; not the secret's own file.
    let searched = search_files(site.dir(), &["citizen-password"]);
    assert!(searched > 5, "{searched} files were searched");
}
