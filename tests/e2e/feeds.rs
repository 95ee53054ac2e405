//! Feeds against real databases and a real web server: nothing is lost, doubled or written where it must not be.

use crate::mariadb::MariaDb;
use crate::postgres::Postgres;
use crate::support::certificates::Authority;
use crate::support::nginx::Nginx;
use ioc_watch::config::{self, Config};
use ioc_watch::feed::{self, Cells, Feed, FeedError, Gatherer, Names, Need, Place, Rejection};
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::{Store, StoreError, Tx};
use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex};

/// Notes what is written: name, amount, time.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// Since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Gatherer for Notes {
    type Row = String;
    type Ready = Vec<String>;

    fn columns(&self) -> Names {
        &[("txn_ref", Need::Required), ("amount", Need::Required), ("time", Need::Required), ("status", Need::Required)]
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<String, Rejection> {
        Ok(format!("{} {} {} {}", cells.required(0)?, cells.amount(1)?, cells.time(2)?, cells.status(3)?))
    }

    fn agency<'r>(&self, _row: &'r String) -> &'r str {
        "ioc"
    }

    async fn foreign(
        &self,
        _tx: &mut Tx,
        _rows: &[&String],
        _may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }

    fn ready(&self, rows: Vec<String>) -> Vec<String> {
        rows
    }

    async fn write(&self, _tx: &mut Tx, rows: Vec<String>, _now: Timestamp) -> Result<(), StoreError> {
        self.0.lock().unwrap().extend(rows);
        Ok(())
    }
}

/// A feed, what it wrote, and the place it works in.
struct Bench {
    config: Config,
    place: Place,
    notes: Arc<Notes>,
    feed: Box<dyn Feed>,
    now: Timestamp,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// `portal` is the portal's feed in YAML.
    async fn new(portal: &str, files: &[(&str, &str)]) -> Bench {
        ioc_watch::install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let text = format!(
            "site: {{name: IOC, agency: ioc}}\npeople: [{{id: it, name: Trực, email: it@vn.example}}]\n\
             agencies: [{{id: ioc, name: Trung tâm IOC, leader: it}}]\ndata_dir: data\npayments:\n  portal:\n    - {portal}\n  \
             gateway: [{{push: {{}}}}]\n"
        );
        let config = config::load_text(&dir.path().join("ioc.yml"), &text, &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{text}{problems:?}"));
        let place = Place {
            store: Store::open(&config.state, &config.data_dir).await.unwrap(),
            metrics: Arc::new(Metrics::new()),
            org: Arc::new(Org::new(&config)),
            data_dir: config.data_dir.clone(),
            pushes: Default::default(),
            workbooks: Default::default(),
        };
        let notes = Arc::new(Notes::default());
        let feed = feed::bind(&config.payments.as_ref().unwrap().portal[0], notes.clone());
        Bench { config, place, notes, feed, now: "2026-11-23T01:00:00Z".parse().unwrap(), _dir: dir }
    }

    /// One poll an hour after the one before; what it wrote.
    async fn poll(&mut self) -> Result<Vec<String>, FeedError> {
        self.now += SignedDuration::from_hours(1);
        self.feed.poll(&self.place, self.now).await?;
        Ok(self.notes.take())
    }

    /// As after a restart.
    fn restart(&mut self) {
        self.feed = feed::bind(&self.config.payments.as_ref().unwrap().portal[0], self.notes.clone());
    }
}

fn sql_feed(url: &str, query: &str, more: &str) -> String {
    format!(
        "sql: {{url: '{url}', password_file: password, query: \"{query}\", watermark: updated_at, batch: 2, {more} \
         columns: {{txn_ref: ma_gd, amount: so_tien, time: updated_at, status: trang_thai}}, \
         status_map: {{'Đã thu': paid}}}}"
    )
}

/// The same story for both databases: `run` runs statements, `types` are those of amount and time.
async fn equal_watermarks(mut bench: Bench, run: impl Fn(&str)) {
    let row = |id: &str, second: u32| {
        run(&format!("insert into thanh_toan values ('{id}', 150000.00, '2026-11-23 08:00:{second:02}', 'Đã thu')"));
    };
    let note = |id: &str, second: u32| format!("{id} 150000 2026-11-23T01:00:{second:02}Z paid");
    for (id, second) in [("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 2), ("f", 3)] {
        row(id, second);
    }
    let mut read = bench.poll().await.unwrap();
    read.sort();
    // Batches of two cut both groups of equal watermarks.
    let all = [note("a", 1), note("b", 1), note("c", 1), note("d", 2), note("e", 2), note("f", 3)];
    assert_eq!(read, all, "each once");
    assert!(bench.poll().await.unwrap().is_empty(), "nothing twice");
    // Written after the look, with the very time that was read last.
    row("g", 3);
    bench.restart();
    assert_eq!(bench.poll().await.unwrap(), [note("g", 3)]);
    run("update thanh_toan set so_tien = 200000, updated_at = '2026-11-23 08:00:09' where ma_gd = 'a'");
    run("insert into thanh_toan values ('bad', 0.5, '2026-11-23 08:00:09', 'Đã thu')");
    assert_eq!(bench.poll().await.unwrap(), ["a 200000 2026-11-23T01:00:09Z paid"]);
    assert!(bench.poll().await.unwrap().is_empty());
    let kept = std::fs::read_dir(feed::rejected_dir(&bench.place.data_dir, "portal-1")).unwrap();
    let kept: String = kept.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(kept.matches("bad").count(), 1, "{kept}");
    assert!(kept.contains("amount"), "{kept}");
}

const QUERY: &str = "select ma_gd, so_tien, updated_at, trang_thai from thanh_toan where updated_at > :watermark";

#[tokio::test]
async fn postgresql_is_read_from_a_watermark_on_without_losing_or_doubling_equal_ones() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    server.database("dvc");
    server.sql(
        "dvc",
        "create table thanh_toan (ma_gd text, so_tien numeric(18,2), updated_at timestamptz, trang_thai text)",
    );
    // Read-only in truth: a user who may do anything, and a function that writes.
    server.sql("dvc", "create function write_it() returns bool language sql as $$ insert into thanh_toan values ('x', 1, now(), 'x') returning true $$");
    let url = format!("postgres://ioc@127.0.0.1:{}/dvc", server.port);
    let files = [("password", "of a test, on loopback\n")];
    let bench = Bench::new(&sql_feed(&url, QUERY, ""), &files).await;
    equal_watermarks(bench, |text| {
        server.sql("dvc", &format!("set timezone = 'Asia/Ho_Chi_Minh'; {text}"));
    })
    .await;
    let writes =
        "select ma_gd, so_tien, updated_at, trang_thai from thanh_toan where updated_at > :watermark and write_it()";
    let mut bench = Bench::new(&sql_feed(&url, writes, ""), &files).await;
    let error = format!("{:?}", bench.poll().await.unwrap_err());
    assert!(error.contains("read-only"), "{error}");
    let slow =
        "select ma_gd, so_tien, updated_at, trang_thai from thanh_toan, pg_sleep(60) where updated_at > :watermark";
    let mut bench = Bench::new(&sql_feed(&url, slow, "timeout: 1s,"), &files).await;
    let error = format!("{:?}", bench.poll().await.unwrap_err());
    assert!(error.contains("statement timeout"), "{error}");
}

#[tokio::test]
async fn mariadb_is_read_from_a_watermark_on_without_losing_or_doubling_equal_ones() {
    let certificates = tempfile::tempdir().unwrap();
    let pair = Authority::new(certificates.path()).server(certificates.path(), "db", false);
    let server = tokio::task::spawn_blocking(move || MariaDb::start(&pair)).await.unwrap();
    server.sql("", "create database dvc character set utf8mb4; create user ioc@'127.0.0.1' identified by 'hunter2'; grant all on dvc.* to ioc@'127.0.0.1'");
    server.sql("dvc", "create table thanh_toan (ma_gd varchar(50), so_tien decimal(18,2), updated_at timestamp, trang_thai varchar(50))");
    let url = format!("mysql://ioc@127.0.0.1:{}/dvc", server.port);
    let bench = Bench::new(&sql_feed(&url, QUERY, ""), &[("password", "hunter2\n")]).await;
    equal_watermarks(bench, |text| {
        server.sql("dvc", &format!("set names utf8mb4; set time_zone = '+07:00'; {text}"));
    })
    .await;
    let slow =
        "select ma_gd, so_tien, updated_at, trang_thai from thanh_toan where updated_at > :watermark and sleep(60) = 0";
    let mut bench = Bench::new(&sql_feed(&url, slow, "timeout: 1s,"), &[("password", "hunter2\n")]).await;
    let error = format!("{:?}", bench.poll().await.unwrap_err());
    assert!(error.contains("max_statement_time"), "{error}");
}

#[tokio::test]
async fn a_page_of_nginx_over_tls_is_read_with_its_ca_alone_and_not_again_by_its_etag() {
    let certificates = tempfile::tempdir().unwrap();
    let authority = Authority::new(certificates.path());
    let pair = authority.server(certificates.path(), "portal", false);
    let page = r#"[{"txn_ref": "T1", "amount": 150000, "time": "2026-11-23T08:00:00+07:00", "status": "paid"}]"#;
    let nginx = Nginx::start(certificates.path(), &pair, page);
    let ca = std::fs::read_to_string(&authority.ca_file).unwrap();
    let columns = "columns: {txn_ref: txn_ref, amount: amount, time: time, status: status}";
    let url = format!("https://localhost:{}/index.html", nginx.port);
    let mut bench =
        Bench::new(&format!("http: {{url: '{url}', ca_file: ca.pem, {columns}}}"), &[("ca.pem", &ca)]).await;
    assert_eq!(bench.poll().await.unwrap(), ["T1 150000 2026-11-23T01:00:00Z paid"]);
    bench.restart();
    assert!(bench.poll().await.unwrap().is_empty(), "not modified");
    let stranger = tempfile::tempdir().unwrap();
    let other = std::fs::read_to_string(Authority::new(stranger.path()).ca_file).unwrap();
    let mut bench =
        Bench::new(&format!("http: {{url: '{url}', ca_file: ca.pem, {columns}}}"), &[("ca.pem", &other)]).await;
    let error = format!("{:?}", bench.poll().await.unwrap_err());
    assert!(error.contains("Tls"), "{error}");
}

/// Status and body of a push with curl.
fn push(port: u16, path: &str, token: &str, key: &str, body: &str) -> (u16, String) {
    let sent = std::process::Command::new("curl")
        .args(["-sS", "-w", "\n%{http_code}", "-H", &format!("Authorization: Bearer {token}")])
        .args(["-H", &format!("Idempotency-Key: {key}"), "-H", "Content-Type: application/x-ndjson"])
        .args(["--data-binary", body, &format!("http://127.0.0.1:{port}{path}")])
        .output()
        .expect("curl runs");
    let text = String::from_utf8(sent.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), answer.to_owned())
}

#[test]
fn what_was_answered_to_a_push_survives_kill_9_and_no_token_writes_beyond_its_rights() {
    let dir = tempfile::tempdir().unwrap();
    let port = crate::support::free_port();
    for token in ["tam-ky", "usage", "metrics"] {
        std::fs::write(dir.path().join(token), format!("secret-of-{token}\n")).unwrap();
    }
    let file = dir.path().join("ioc.yml");
    let text = format!(
        "site: {{name: IOC, agency: ioc}}\nserver:\n  listen: 127.0.0.1:{port}\n  tokens:\n    \
         - {{name: tam-ky, token_file: tam-ky, agency: tam-ky, may: [payments]}}\n    \
         - {{name: usage, token_file: usage, may: [usage]}}\n    - {{name: metrics, token_file: metrics, may: [metrics]}}\n\
         data_dir: data\nhost: false\npeople: [{{id: it, name: Trực, email: it@vn.example}}]\n\
         agencies: [{{id: ioc, name: IOC, leader: it}}, {{id: tam-ky, name: Tam Kỳ, leader: it}}]\n\
         payments: {{portal: [{{push: {{}}}}], gateway: [{{push: {{}}}}]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut daemon = crate::support::daemon::Daemon::start(dir.path(), &file, port);
    let row = r#"{"txn_ref": "T1", "amount": 150000, "status": "paid", "time": "2026-11-20T08:15:00+07:00"}"#;
    let foreign =
        r#"{"txn_ref": "T2", "agency": "ioc", "amount": 1, "status": "paid", "time": "2026-11-20T08:15:00+07:00"}"#;
    let body = format!("{row}\n{foreign}\n");
    let portal = "/api/ioc/v1/payments/portal";
    // The feeds open a moment after the daemon is ready.
    let first = crate::support::wait_for("the feed to take rows", std::time::Duration::from_secs(20), || {
        Some(push(port, portal, "secret-of-tam-ky", "k1", &body)).filter(|(status, _)| *status != 404)
    });
    assert_eq!(first.0, 200, "{}", first.1);
    assert!(first.1.contains("\"accepted\":1") && first.1.contains("\"line\":2"), "{}", first.1);
    daemon.kill();
    let daemon = crate::support::daemon::Daemon::start(dir.path(), &file, port);
    let again = crate::support::wait_for("the feed to take rows again", std::time::Duration::from_secs(20), || {
        Some(push(port, portal, "secret-of-tam-ky", "k1", &body)).filter(|(status, _)| *status != 404)
    });
    assert_eq!(again, first, "the same answer");
    assert_eq!(push(port, portal, "secret-of-tam-ky", "k1", row).0, 422, "another body under the same key");
    let kept = std::fs::read_dir(feed::rejected_dir(&dir.path().join("data"), "portal-1")).unwrap();
    let kept: String = kept.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(kept.matches("another agency's").count(), 1, "{kept}");
    for (token, path, expected) in [
        ("secret-of-usage", portal, 403),
        ("secret-of-metrics", portal, 403),
        ("secret-of-tam-ky", "/api/ioc/v1/usage", 403),
        ("secret-of-nobody", portal, 401),
        ("secret-of-usage", "/api/ioc/v1/usage", 404),
        ("secret-of-tam-ky", "/api/ioc/v1/payments/portal?feed=gateway-1", 404),
    ] {
        assert_eq!(push(port, path, token, "k2", row).0, expected, "{token} {path}");
    }
    let huge = format!("[{}]", vec!["{}"; 10_001].join(","));
    assert_eq!(push(port, portal, "secret-of-tam-ky", "k3", &huge).0, 413);
    assert_eq!(push(port, portal, "secret-of-tam-ky", "k3", "<html>").0, 400);
    assert!(daemon.log().contains("rows could not be used"), "{}", daemon.log());
}
