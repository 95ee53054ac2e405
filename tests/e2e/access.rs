//! The locked house over TLS, for the programs that come to it: curl with a session, Basic and bearer tokens, amtool,
//! promtool. Each does what its rights say and no more.

use crate::site::{Site, services};
use crate::support::certificates::Authority;
use crate::support::daemon::Daemon;
use crate::support::{Process, free_port, wait_for, wait_for_port};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "mật-khẩu-dài";

struct House {
    site: Site,
    base: String,
}

impl House {
    /// Writes users, tokens, certificate and configuration.
    fn new() -> House {
        let site = Site::new();
        let dir = site.dir();
        site.authority.server(dir, "web", false);
        let hash = hash_password(PASSWORD);
        let users = format!(
            "ops: {{hash: '{hash}', roles: [operator]}}\nxem: {{hash: '{hash}', roles: [viewer], language: vi}}\n\
             tk: {{hash: '{hash}', roles: [operator], agency: tam-ky}}\n"
        );
        std::fs::write(dir.join("users.yml"), users).expect("a writable directory");
        for token in ["scrape", "tamky"] {
            std::fs::write(dir.join(token), format!("secret-of-{token}\n")).expect("a writable directory");
        }
        site.configure(&["tam-ky", "hoi-an"], &format!("host: false\n{}", services("tam-ky", &["dvc"], 1)));
        let text = std::fs::read_to_string(site.file()).expect("the configuration");
        let listen = format!("listen: '127.0.0.1:{}'", site.port);
        let server = format!(
            "{listen}, tls: {{cert_file: web.crt, key_file: web.key}}, users_file: users.yml, tokens: [\
             {{name: scrape, token_file: scrape, may: [metrics]}}, \
             {{name: tamky, token_file: tamky, may: [alerts, metrics, query], agency: tam-ky}}]"
        );
        std::fs::write(site.file(), text.replace(&listen, &server)).expect("a writable directory");
        let base = format!("https://localhost:{}", site.port);
        House { site, base }
    }

    fn start(&self) -> Daemon {
        let daemon = Daemon::spawn(self.site.dir(), &self.site.file(), self.site.port);
        wait_for(&format!("the daemon to be ready; its log:\n{}", daemon.log()), SOON, || {
            (self.curl(&[], "/-/ready").0 == 200).then_some(())
        });
        daemon
    }

    /// Status and body.
    fn curl(&self, arguments: &[&str], path: &str) -> (u16, String) {
        self.curl_trusting(&self.site.authority.ca_file, arguments, path)
    }

    fn curl_trusting(&self, ca: &Path, arguments: &[&str], path: &str) -> (u16, String) {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(ca)
            .args(arguments)
            .arg(format!("{}{path}", self.base))
            .output()
            .expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_string())
    }

    fn amtool(&self, http: &str, arguments: &[&str]) -> (bool, String) {
        let file = self.site.dir().join("amtool-http.yml");
        let text = format!("{http}\ntls_config: {{ca_file: '{}'}}\n", self.site.authority.ca_file.display());
        std::fs::write(&file, text).expect("a writable directory");
        let output = Command::new("amtool")
            .arg(format!("--alertmanager.url={}", self.base))
            .arg(format!("--http.config.file={}", file.display()))
            .args(arguments)
            .output()
            .expect("amtool is installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn promtool(&self, user: &str, expression: &str) -> (bool, String) {
        let password: String = url::form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
        let output = Command::new("promtool")
            .env("SSL_CERT_FILE", &self.site.authority.ca_file)
            .args(["query", "instant"])
            .arg(format!("https://{user}:{password}@localhost:{}", self.site.port))
            .arg(expression)
            .output()
            .expect("promtool is installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// As an operator makes one: `printf … | ioc-watch hash-password`.
fn hash_password(password: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the built program");
    writeln!(child.stdin.take().expect("a pipe"), "{password}").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn as_user(name: &str) -> String {
    format!("{name}:{PASSWORD}")
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer secret-of-{name}")
}

#[test]
fn curl_amtool_and_promtool_do_what_they_may_over_tls() {
    let house = House::new();
    let mut daemon = house.start();
    let (ops, xem, tk) = (as_user("ops"), as_user("xem"), as_user("tk"));
    let (scrape, tamky) = (bearer("scrape"), bearer("tamky"));

    // Nothing but TLS, and nothing for nobody.
    let plain = Command::new("curl")
        .args(["--silent", "--max-time", "5", &house.base.replace("https", "http")])
        .output()
        .expect("curl is installed");
    assert!(plain.stdout.is_empty(), "{}", String::from_utf8_lossy(&plain.stdout));
    let rows: [(&str, &[&str], &str, u16); 15] = [
        ("nobody", &[], "/metrics", 401),
        ("nobody, a page", &["--header", "Accept: text/html"], "/incidents", 303),
        ("a wrong password", &["--user", "xem:guess"], "/metrics", 401),
        ("a viewer", &["--user", &xem], "/metrics", 200),
        ("a viewer", &["--user", &xem], "/incidents", 200),
        ("a viewer who reloads", &["--user", &xem, "--request", "POST"], "/-/reload", 403),
        ("an operator who reloads", &["--user", &ops, "--request", "POST"], "/-/reload", 403),
        ("the scraper", &["--header", &scrape], "/metrics", 200),
        ("the scraper, further", &["--header", &scrape], "/api/v1/query?query=up", 403),
        ("the scraper, a page", &["--header", &scrape], "/", 403),
        ("a wrong token", &["--header", "Authorization: Bearer secret-of-nobody"], "/metrics", 401),
        ("an agency's token", &["--header", &tamky], "/api/v1/query?query=vector(1)", 200),
        ("an agency's user, the whole site", &["--user", &tk], "/status", 403),
        ("a forged host", &["--user", &xem, "--header", "Host: evil.example"], "/", 403),
        (
            "a foreign page",
            &["--user", &ops, "--header", "Origin: https://evil.example", "--data", "x"],
            "/-/reload",
            403,
        ),
    ];
    for (name, arguments, path, expected) in rows {
        let (status, body) = house.curl(arguments, path);
        assert_eq!(status, expected, "{name}: {path}: {body}");
    }
    let headers = house.curl(&["--user", &xem, "--include"], "/").1.to_lowercase();
    for expected in ["strict-transport-security: max-age=", "content-security-policy: default-src 'none'", "no-store"] {
        assert!(headers.contains(expected), "{headers}");
    }

    alerts(&house);
    queries(&house);
    sessions(&house, &mut daemon);
    let log = daemon.log();
    assert!(!log.contains(PASSWORD) && !log.contains("secret-of-") && !log.contains("argon2id"), "{log}");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// amtool: who may add alerts, and whose.
fn alerts(house: &House) {
    let basic = |name: &str| format!("basic_auth: {{username: {name}, password: '{PASSWORD}'}}");
    let token = "authorization: {credentials: secret-of-tamky}".to_string();
    let add = |http: &str, agency: &str| {
        let agency_label = format!("agency={agency}");
        let labels = ["alertname=Thu", &agency_label, "area=service", "severity=warning"];
        house.amtool(http, &[&["alert", "add"][..], &labels].concat())
    };
    let rows = [
        ("a viewer", basic("xem"), "tam-ky", false),
        ("an operator", basic("ops"), "hoi-an", true),
        ("an agency's operator, elsewhere", basic("tk"), "hoi-an", false),
        ("an agency's operator, to nobody", basic("tk"), "khong-co", false),
        ("an agency's operator", basic("tk"), "tam-ky", true),
        ("an agency's token, elsewhere", token.clone(), "hoi-an", false),
        ("an agency's token", token.clone(), "tam-ky", true),
        ("nobody", "follow_redirects: true".to_string(), "tam-ky", false),
    ];
    for (name, http, agency, expected) in rows {
        let (done, output) = add(&http, agency);
        assert_eq!(done, expected, "{name}: {output}");
    }
    for (http, sees_all) in [(basic("xem"), true), (basic("tk"), false), (token, false)] {
        let (done, output) = house.amtool(&http, &["alert", "query", "--output=extended"]);
        assert!(done, "{output}");
        assert_eq!((output.contains("tam-ky"), output.contains("hoi-an")), (true, sees_all), "{output}");
    }
}

/// promtool: what somebody of one agency finds.
fn queries(house: &House) {
    let expression =
        "sum by (agency) (ioc_agency_info) or label_replace(ioc_agency_info, \"x\", \"$1\", \"agency\", \"(.*)\")";
    wait_for("history", SOON, || house.promtool("xem", expression).1.contains("hoi-an").then_some(()));
    let (done, output) = house.promtool("xem", expression);
    assert!(done && output.contains("tam-ky") && output.contains("hoi-an"), "{output}");
    let (done, output) = house.promtool("tk", expression);
    assert!(done && output.contains("tam-ky") && !output.contains("hoi-an"), "{output}");
    let (done, output) = house.promtool("khong-co", expression);
    assert!(!done && !output.contains("tam-ky"), "{output}");
    let (_, page) = house.curl(&["--header", &bearer("tamky")], "/metrics");
    assert!(page.contains("agency=\"tam-ky\"") && !page.contains("hoi-an") && !page.contains("process_"), "{page}");
}

/// A session outlives the daemon, and not its logout.
fn sessions(house: &House, daemon: &mut Daemon) {
    let jar = house.site.dir().join("jar");
    let jar = jar.to_str().expect("a path");
    let keep = ["--cookie", jar, "--cookie-jar", jar];
    let password = format!("password={PASSWORD}");
    let login = ["--data-urlencode", "user=xem", "--data-urlencode", &password, "--data-urlencode", "next=/incidents"];
    let (status, body) = house.curl(&[&login[..], &keep].concat(), "/login");
    assert_eq!(status, 303, "{body}");
    let kept = std::fs::read_to_string(jar).expect("a jar");
    assert!(kept.contains("__Host-ioc_session") && kept.contains("#HttpOnly_localhost\tFALSE\t/\tTRUE"), "{kept}");
    assert!(daemon.stop(), "{}", daemon.log());
    *daemon = house.start();
    let (status, page) = house.curl(&keep, "/incidents");
    assert!(status == 200 && page.contains("Đăng xuất"), "{status}: {page}");
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    // What was in the jar before the logout is what a thief would have.
    let stolen = format!("{jar}.stolen");
    std::fs::copy(jar, &stolen).expect("a copy");
    assert_eq!(house.curl(&[&["--data", "csrf=0"][..], &keep].concat(), "/logout").0, 403);
    assert_eq!(house.curl(&["--cookie", &stolen], "/incidents").0, 200);
    let (status, _) = house.curl(&[&["--data", &format!("csrf={csrf}")][..], &keep].concat(), "/logout");
    assert_eq!(status, 303);
    assert_eq!(house.curl(&["--cookie", &stolen], "/incidents").0, 401, "replayed");
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let house = House::new();
    let mut daemon = house.start();
    let dir = house.site.dir();
    let successful = |ca: &Path| {
        let (_, page) = house.curl_trusting(ca, &["--header", &bearer("scrape")], "/metrics");
        let line = page.lines().find(|line| line.starts_with("ioc_watch_tls_last_reload_successful{"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let old = &house.site.authority.ca_file;
    assert_eq!(successful(old), Some(1.0));
    std::fs::write(dir.join("web.key"), "half a key").expect("a writable directory");
    wait_for("the broken key to be told", SOON, || (successful(old) == Some(0.0)).then_some(()));
    assert!(daemon.log().contains("the one before goes on"), "{}", daemon.log());
    // Another authority signs, and the files are swapped one after the other.
    let other = dir.join("other");
    std::fs::create_dir(&other).expect("a writable directory");
    let renewed = Authority::new(&other);
    let (certificate, key) = renewed.server(&other, "web", false);
    std::fs::copy(certificate, dir.join("web.crt")).expect("a copy");
    std::fs::copy(key, dir.join("web.key")).expect("a copy");
    wait_for("the renewed certificate", SOON, || (successful(&renewed.ca_file) == Some(1.0)).then_some(()));
    assert_eq!(house.curl(&[], "/-/ready").0, 0, "the old authority's certificate is not served any more");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// As the guide says: nginx speaks TLS, the daemon on loopback believes what it says about the client.
#[test]
fn behind_nginx_a_session_is_for_tls_and_forged_addresses_help_nobody() {
    let mut house = House::new();
    let (dir, port) = (house.site.dir().to_path_buf(), free_port());
    let text = std::fs::read_to_string(house.site.file()).expect("the configuration");
    let text = text
        .replace("tls: {cert_file: web.crt, key_file: web.key}", "trusted_proxies: [127.0.0.1]")
        .replace("agency: ioc}", &format!("agency: ioc, external_url: 'https://localhost:{port}'}}"));
    std::fs::write(house.site.file(), text).expect("a writable directory");
    let d = dir.display();
    let nginx = format!(
        "worker_processes 1; pid {d}/proxy.pid; error_log {d}/proxy.log; daemon off; user root;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {d}/p1; proxy_temp_path {d}/p2; fastcgi_temp_path {d}/p3; \
         uwsgi_temp_path {d}/p4; scgi_temp_path {d}/p5;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {d}/web.crt; ssl_certificate_key {d}/web.key;\n\
         location / {{ proxy_pass http://127.0.0.1:{}; proxy_set_header Host $http_host; \
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }} }}\n",
        house.site.port
    );
    std::fs::write(dir.join("proxy.conf"), nginx).expect("a writable directory");
    let mut daemon = Daemon::start(&dir, &house.site.file(), house.site.port);
    let child = Command::new("/usr/sbin/nginx")
        .arg("-c")
        .arg(dir.join("proxy.conf"))
        .arg("-p")
        .arg(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed");
    let _nginx = Process(child);
    wait_for_port("nginx", port);
    house.base = format!("https://localhost:{port}");

    let jar = dir.join("jar");
    let jar = jar.to_str().expect("a path");
    let keep = ["--cookie", jar, "--cookie-jar", jar];
    let (ours, password) = (format!("Origin: {}", house.base), format!("password={PASSWORD}"));
    let login = ["--data-urlencode", "user=xem", "--data-urlencode", &password, "--header"];
    let foreign = [&login[..], &["Origin: https://evil.example"], &keep].concat();
    assert_eq!(house.curl(&foreign, "/login").0, 403);
    assert_eq!(house.curl(&[&login[..], &[&ours], &keep].concat(), "/login").0, 303);
    assert!(std::fs::read_to_string(jar).expect("a jar").contains("__Host-ioc_session"));
    let (status, page) = house.curl(&[&["--include"][..], &keep].concat(), "/incidents");
    assert!(status == 200 && page.to_lowercase().contains("strict-transport-security"), "{status}: {page}");
    assert_eq!(house.curl(&["--header", "Host: evil.example", "--user", &as_user("xem")], "/").0, 403);
    // Nobody is local for what a proxy forwards, or says.
    assert_eq!(house.curl(&["--request", "POST"], "/-/reload").0, 401);
    let statuses: Vec<u16> = (0..23)
        .map(|index| {
            let (user, from) = (format!("u{index}:x"), format!("X-Forwarded-For: 192.0.2.{index}"));
            house.curl(&["--user", &user, "--header", &from], "/metrics").0
        })
        .collect();
    assert!(statuses[..19].iter().all(|status| *status == 401) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(house.curl(&keep, "/incidents").0, 200, "who is logged in does not wait");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
