//! The whole router, called in process.

use super::{AppState, Parts, StatusBoard, router};
use crate::attribution::{Ledger, State, Subject, SubjectKind};
use crate::config;
use crate::history::History;
use crate::metrics::{Metrics, columns};
use crate::store::Store;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tower::ServiceExt;

pub(super) const CONFIG: &str = r#"
site: {name: IOC huyện Thăng Bình, agency: ioc, external_url: "http://ioc.example"}
data_dir: data
people:
  - {id: truc, name: Trực IOC, email: truc@ioc.vn.example}
agencies:
  - {id: ioc, name: Trung tâm IOC, leader: truc}
  - {id: tam-ky, name: UBND TP. Tam Kỳ, leader: truc}
  - {id: hoi-an, name: UBND TP. <Hội An>, leader: truc}
  - {id: nui-thanh, name: UBND huyện Núi Thành, leader: truc}
services:
  - {id: dvc-tam-ky, name: Cổng dịch vụ công TP. Tam Kỳ, agency: tam-ky, kind: portal, http: {url: "http://127.0.0.1:1/"}}
  - {id: motcua-tam-ky, name: Một cửa điện tử, agency: tam-ky, kind: application, http: {url: "http://127.0.0.1:1/"}}
  - {id: dvc-hoi-an, name: Cổng dịch vụ công Hội An, agency: hoi-an, kind: portal, http: {url: "http://127.0.0.1:1/"}}
  - {id: qoffice, name: Q-office, agency: ioc, kind: application, http: {url: "http://127.0.0.1:1/"}}
email: {smtp: "smtp://127.0.0.1:25", from: "IOC <ioc@vn.example>"}
"#;

pub(super) struct House {
    pub router: Router,
    pub state: AppState,
    pub dir: tempfile::TempDir,
}

/// A daemon's web room with something to show.
pub(super) async fn house() -> House {
    house_with(CONFIG, &[]).await
}

/// With this configuration, and files beside it.
pub(super) async fn house_with(text: &str, files: &[(&str, &str)]) -> House {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let file = dir.path().join("ioc-watch.yml");
    std::fs::write(&file, text).unwrap();
    let config = Arc::new(config::load(&file).unwrap());
    let store = Store::open(&config.state, &config.data_dir).await.unwrap();
    let ledger = Ledger::resume(store.clone()).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let now = Timestamp::now();
    fill(&ledger, &metrics, now);
    fill_store(&store, now).await;
    let status = StatusBoard::new(now);
    status.task_started("service", now);
    status.task_failed("mqtt district", "connection refused <x>", now);
    status.reloaded(Err("ioc-watch.yml:3:1: error: unknown key".into()), now);
    let (reload, mut requests) = tokio::sync::mpsc::channel::<super::ReloadRequest>(1);
    tokio::spawn(async move {
        while let Some(answer) = requests.recv().await {
            let _ = answer.send(Err("ioc-watch.yml:3:1: error: unknown key".into()));
        }
    });
    let history = Arc::new(History::new(&config.history));
    let ready = Arc::new(AtomicBool::new(false));
    let rules = crate::rules::RulesBoard::default();
    let state = AppState::new(Parts { config, metrics, history, rules, store, ledger, ready, reload, status });
    // As the alert API comes: nested, with a state of its own.
    let extra = Router::new().route("/api/v2/secret", axum::routing::get(|| async { "never" }));
    House { router: router(state.clone(), extra), state, dir }
}

fn fill(ledger: &Ledger, metrics: &Metrics, now: Timestamp) {
    let ago = |minutes: i64| now - jiff::SignedDuration::from_mins(minutes);
    let subject = |id: &str| Subject { kind: SubjectKind::Service, id: id.into() };
    ledger.observe(&subject("dvc-tam-ky"), "tam-ky", State::Down, ago(6), "hang");
    ledger.observe(&subject("motcua-tam-ky"), "tam-ky", State::Up, ago(3_000), "");
    ledger.observe(&subject("dvc-hoi-an"), "hoi-an", State::Up, ago(20), "");
    let tls = metrics.table(columns::service_tls::TABLE);
    let row = tls.row(&["hoi-an", "dvc-hoi-an", "portal", "leaf"]);
    tls.set(row, columns::service_tls::EXPIRY, now.as_second() as f64 + 9.5 * 86_400.0);
    let devices = metrics.table(columns::device::TABLE);
    for index in 0..20 {
        let (kind, agency) = if index < 12 { ("camera", "nui-thanh") } else { ("hotspot", "hoi-an") };
        let row = devices.row(&[agency, kind, "nvh-1", &format!("d-{index}")]);
        devices.set(row, columns::device::INSTALLED, 1.0);
        devices.set(row, columns::device::UP, if index % 6 == 0 && index < 12 { 0.0 } else { 1.0 });
        devices.set(row, columns::device::USABLE, f64::from(u8::from(index % 3 != 0)));
    }
    let mismatches = metrics.table(columns::payment_mismatch::TABLE);
    let row = mismatches.row(&["tam-ky", "paid_not_recorded"]);
    mismatches.set(row, columns::payment_mismatch::OPEN, 2.0);
    mismatches.set(row, columns::payment_mismatch::AMOUNT, 1_250_000.0);
    let incidents = metrics.table(columns::incidents::TABLE);
    let row = incidents.row(&["tam-ky", "service", "critical"]);
    incidents.set(row, columns::incidents::OPEN, 1.0);
    let scores = metrics.table(columns::agency_score::TABLE);
    let row = scores.row(&["hoi-an"]);
    scores.set(row, columns::agency_score::SCORE, 87.5);
}

async fn fill_store(store: &Store, now: Timestamp) {
    let us = crate::store::micros(now) - 360_000_000;
    let mut tx = store.begin().await.unwrap();
    let statements = [
        format!(
            "INSERT INTO incidents (id, group_key, agency, area, severity, subject, subject_en, opened_us, mails, told) VALUES (7, 'k', 'tam-ky', 'service', 'critical', 'Cổng dịch vụ công TP. Tam Kỳ bị treo 6 phút', 'The portal of Tam Kỳ hangs', {us}, 1, '[]')"
        ),
        "INSERT INTO alert_texts (incident, fingerprint, severity, labels, annotations, generator_url) VALUES (7, 'f', 'critical', '{\"alertname\":\"ServiceHanging\"}', '{\"summary\":\"Cổng <b> bị treo\",\"summary_en\":\"The portal hangs\",\"runbook\":\"docs/runbooks/service-hanging.md\"}', '')"
            .to_owned(),
        format!("INSERT INTO alerts (incident, fingerprint, starts_us) VALUES (7, 'f', {us})"),
        format!(
            "INSERT INTO incident_timeline (incident, seq, at_us, event, person, detail) VALUES (7, 1, {us}, 'opened', '', ''), (7, 2, {us}, 'mailed', 'truc', ''), (7, 3, {us}, 'escalated', '', 'bậc 2')"
        ),
    ];
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.unwrap();
    }
    let report = crate::evaluation::report::tests::sample();
    let language = config::site::Language::Vi;
    let html = report.html(language).unwrap();
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(7));
    crate::evaluation::archive::keep(&mut tx, &report, language, &html, &zone, now).await.unwrap();
    tx.commit().await.unwrap();
}

pub(super) fn request(method: Method, path: &str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert(header::HOST, "127.0.0.1:9470".parse().unwrap());
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 40_000))));
    request
}

pub(super) async fn ask(house: &House, request: Request<Body>) -> (StatusCode, header::HeaderMap, String) {
    let response = house.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn every_page_answers_in_both_languages_and_escapes() {
    let house = house().await;
    let rows = [
        ("/", "đơn vị có gián đoạn", "agencies with an outage"),
        ("/incidents", "nghiêm trọng", "critical"),
        ("/incidents/7", "Diễn biến", "Timeline"),
        ("/silences", "Không có thông báo nào đang tạm tắt", "Nothing is silenced"),
        ("/reports", "Đánh giá tuần", "Weekly evaluation"),
        ("/reports/2026-W47", "Chi tiết và lý do", "Details and reasons"),
        ("/status", "chờ khởi động lại", "waits to restart"),
        ("/agencies/hoi-an", "Sử dụng ứng dụng", "Use of applications"),
        ("/runbooks/watchdog", "<h1>", "<h1>"),
    ];
    for (path, vi, en) in rows {
        for (lang, expected) in [("vi", vi), ("en", en)] {
            let (status, headers, body) = ask(&house, request(Method::GET, &format!("{path}?lang={lang}"))).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(body.contains(expected), "{path}: {expected:?} is not in\n{body}");
            assert!(!body.contains("<script") && !body.contains("<b> bị") && !body.contains("<Hội"), "{path}");
            assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }
    let (_, _, wall) = ask(&house, request(Method::GET, "/?lang=vi")).await;
    for expected in ["6 phút", "1.250.000 đ", "87,5/100", "10/12", "Chứng thư số hết hạn sau 9 ngày"] {
        assert!(wall.contains(expected), "{expected:?} is not in\n{wall}");
    }
    for path in ["/incidents/8", "/reports/2026-W46", "/reports/x", "/runbooks/nothing", "/nothing"] {
        assert_eq!(ask(&house, request(Method::GET, path)).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_agency_has_a_page_of_all_that_is_its_own() {
    let house = house().await;
    let metrics = house.state.metrics();
    let row = metrics.table(columns::app::TABLE).row(&["tam-ky", "qoffice"]);
    for (column, value) in
        [(columns::app::ACTIVE_USERS, 1_234.0), (columns::app::UNUSED, 4.0), (columns::app::UNUSED_LIMIT, 3.0)]
    {
        metrics.table(columns::app::TABLE).set(row, column, value);
    }
    let row = metrics.table(columns::target::TABLE).row(&["tam-ky", "motcua", "truc-tuyen"]);
    for (column, value) in [
        (columns::target::GOAL, 300.0),
        (columns::target::DONE, 170.0),
        (columns::target::OBSERVED, 10.0),
        (columns::target::NEEDED, 130.0 / 3.0),
        (columns::target::PROJECTED, 200.0),
        (columns::target::DAYS_LEFT, 3.0),
        (columns::target::END, 1_796_058_000.0),
    ] {
        metrics.table(columns::target::TABLE).set(row, column, value);
    }
    let row = metrics.table(columns::dossier_standing::TABLE).row(&["tam-ky", "motcua"]);
    metrics.table(columns::dossier_standing::TABLE).set(row, columns::dossier_standing::OVERDUE, 3.0);
    let (first, _) = config::usage::Period::Month.around(Timestamp::now().in_tz("Asia/Ho_Chi_Minh").unwrap().date());
    let from = crate::store::micros(first.in_tz("Asia/Ho_Chi_Minh").unwrap().timestamp());
    let mut tx = house.state.store().begin().await.unwrap();
    for (channel, from, value) in [
        ("online", from + 1_000, 3_234),
        ("counter", from + 1_000, 11_913),
        ("online", from - 1_000, 21),
        ("counter", from - 1_000, 79),
    ] {
        sqlx::query(
            "INSERT INTO dossier_counts (agency, source, procedure_code, step, channel, outcome, from_us, to_us, value, counted) \
             VALUES ('tam-ky', 'motcua', '', 'submitted', $1, 'none', $2, $2, $3, $3)",
        )
        .bind(channel)
        .bind(from)
        .bind(value)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let page = async |path: &str| {
        let (status, _, body) = ask(&house, request(Method::GET, path)).await;
        (status, body.replace("&#x2f;", "/"))
    };
    let (_, vi) = page("/agencies/tam-ky?lang=vi").await;
    for text in [
        "UBND TP. Tam Kỳ",
        "Cổng dịch vụ công TP. Tam Kỳ",
        "đã thanh toán nhưng chưa ghi nhận",
        "21,35 % (3.234/15.147)",
        "tháng trước 21,00 % (21/100)",
        "+0,35 điểm %",
        "Quá hạn",
        "56,67 % (170/300)",
        "43,3",
        "30/11/2026",
        "1.234",
        "4 ngày làm việc không ai dùng",
    ] {
        assert!(vi.contains(text), "{text}: {vi}");
    }
    let (_, en) = page("/agencies/tam-ky?lang=en").await;
    for text in ["21.35 % (3,234/15,147)", "+0.35 points", "Needed a working day", "4 working days unused"] {
        assert!(en.contains(text), "{text}: {en}");
    }
    let (status, escaped) = page("/agencies/hoi-an").await;
    assert!(status == StatusCode::OK && escaped.contains("&lt;Hội An&gt;"), "{escaped}");
    assert_eq!(page("/agencies/khong-co").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_incident_is_named_in_the_language_of_its_reader() {
    let house = house().await;
    for (path, here, not_here) in [
        ("/incidents/7?lang=en", &["<h1", "The portal of Tam Kỳ hangs", "step 2"][..], "bậc 2"),
        ("/incidents?lang=en", &["The portal of Tam Kỳ hangs"], "bị treo 6 phút"),
        ("/incidents/7?lang=vi", &["bị treo 6 phút", "bậc 2"], "The portal of"),
    ] {
        let (_, _, page) = ask(&house, request(Method::GET, path)).await;
        here.iter().for_each(|text| assert!(page.contains(text), "{path} {text}: {page}"));
        assert!(!page.contains(not_here), "{path}: {page}");
    }
}

#[tokio::test]
async fn what_the_access_table_does_not_know_is_refused() {
    let house = house().await;
    assert_eq!(ask(&house, request(Method::GET, "/api/v2/secret")).await.0, StatusCode::FORBIDDEN);
    let mut foreign = request(Method::GET, "/");
    foreign.headers_mut().insert(header::HOST, "evil.example".parse().unwrap());
    assert_eq!(ask(&house, foreign).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&house, request(Method::PUT, "/metrics")).await.0, StatusCode::METHOD_NOT_ALLOWED);
    // Every route of the table that is ours exists, or answers for its parameters.
    let lines = super::access::ROUTES.iter().filter(|line| !line.path.starts_with("/api/v2"));
    // What people do to incidents comes with the stage, see `acts_tests.rs`.
    let is_act = |line: &super::access::Route| {
        let paths = ["/incidents/{id}", "/silences/{id}"];
        let is_posted = line.method == Method::POST && paths.iter().any(|path| line.path.contains(path));
        ELSEWHERE.iter().any(|path| line.path.starts_with(path)) || is_posted
    };
    for line in lines.filter(|line| !BY_NUMBER.contains(&line.path) && !is_act(line)) {
        let path = line.path.replace("{id}", "7").replace("{week}", "2026-W47").replace("{name}", "watchdog");
        let (status, ..) = ask(&house, request(line.method.clone(), &path)).await;
        let refused = matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED);
        assert!(!refused, "{} {path}: {status}", line.method);
    }
}

/// They come with other rooms, whose tests ask for them.
const ELSEWHERE: &[&str] = &[
    "/ack/{token}",
    "/api/ioc/v1/bounces",
    "/api/ioc/v1/devices",
    "/api/ioc/v1/heartbeats",
    "/api/ioc/v1/outbox",
    "/devices",
    "/api/ioc/v1/payments/",
    "/api/ioc/v1/usage",
];

/// They answer 404 for a number that there is not.
const BY_NUMBER: &[&str] = &["/agencies/{id}", "/api/ioc/v1/maintenance/{id}", "/api/ioc/v1/overrides/{id}"];

/// The router cannot be asked what it knows, its source can: every `.route(…)` of this room is in the table.
#[test]
fn every_registered_route_is_in_the_table() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web");
    let mut n_found = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".rs") || name.ends_with("tests.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        // Nested by the daemon.
        let prefix = if name.ends_with("_v2.rs") { "/api/v2" } else { "" };
        let source = source.split("#[cfg(test)]").next().unwrap();
        for call in source.split(".route(").skip(1) {
            let mut depth = 1;
            let end = call.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let call = &call[..end.unwrap()];
            let path = call.split('"').nth(1).unwrap_or_else(|| panic!("{name}: a route's path is a literal: {call}"));
            let methods = [("get", Method::GET), ("post", Method::POST), ("delete", Method::DELETE)];
            let others = ["put(", "patch(", "any(", "options(", " on("];
            assert!(!others.iter().any(|other| call.contains(other)), "{name}: teach this test: {call}");
            for (word, method) in methods.iter().filter(|(word, _)| call.contains(&format!("{word}("))) {
                let path = format!("{prefix}{path}");
                assert!(super::access::of(method, &path).is_some(), "{word} {path} is not in the table of access.rs");
                n_found += 1;
            }
        }
        for other in [".route_service(", ".nest_service(", ".nest(", ".fallback_service("] {
            // A daemon that stands by answers whatever it is asked in the same way: that another one leads.
            let is_standby = name == "standby.rs" && other == ".fallback_service(";
            assert!(is_standby || !source.contains(other), "{name}: {other} goes past the table");
        }
    }
    assert!(n_found > 25, "{n_found}");
}

#[tokio::test]
async fn readiness_reload_scrape_and_api() {
    let house = house().await;
    assert_eq!(ask(&house, request(Method::GET, "/-/ready")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _, body) = ask(&house, request(Method::POST, "/-/reload")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("ioc-watch.yml:3:1: error: unknown key"), "{body}");

    let mut scrape = request(Method::GET, "/metrics");
    scrape.headers_mut().insert(header::ACCEPT, "application/openmetrics-text;version=1.0.0".parse().unwrap());
    let (_, headers, body) = ask(&house, scrape).await;
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(body.ends_with("# EOF\n") && body.contains("ioc_device_up{agency="));
    assert!(body.contains(r#"ioc_http_requests_total{route="/-/reload",status="500"} 1"#), "{body}");
    let mut zipped = request(Method::GET, "/metrics");
    zipped.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(ask(&house, zipped).await.1[header::CONTENT_ENCODING], "gzip");

    house.state.history().sample(house.state.metrics(), Timestamp::now());
    let query = "/api/v1/query?query=sum(ioc_device_up%7Bkind%3D%22camera%22%7D)";
    let (status, _, body) = ask(&house, request(Method::GET, query)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains(r#""10"]"#), "{body}");
    let (status, _, body) = ask(&house, request(Method::GET, "/api/v1/query?query=sum(")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains(r#""errorType":"bad_data""#), "{body}");

    let (_, _, body) = ask(&house, request(Method::GET, "/api/ioc/v1/scorecards")).await;
    let cards: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(cards["week"], "2026-W47");
    assert_eq!(cards["scorecards"][0]["underperforming"], true);
    let (_, _, body) = ask(&house, request(Method::GET, "/api/ioc/v1/incidents")).await;
    assert!(body.contains(r#""id":7"#), "{body}");
}

/// The list of incidents by what its links choose, and by what programs ask; and page after page.
#[tokio::test]
async fn incidents_are_found_by_what_they_are() {
    let house = house().await;
    let us = crate::store::micros(Timestamp::now());
    let hour = 3_600_000_000;
    let mut tx = house.state.store().begin().await.unwrap();
    for (id, agency, area, severity, resolved) in [
        (8, "hoi-an", "camera", "warning", "NULL".to_owned()),
        (9, "hoi-an", "service", "critical", (us - 48 * hour).to_string()),
        (10, "tam-ky", "service", "warning", (us - hour).to_string()),
    ] {
        let opened = us - 72 * hour;
        let excused = if id == 8 { format!("{us}, 'maintenance', 'sửa'") } else { "NULL, NULL, NULL".into() };
        let insert = format!(
            "INSERT INTO incidents (id, group_key, agency, area, severity, subject, opened_us, resolved_us, mails, told, excused_us, excused_why, excused_by) VALUES ({id}, 'k{id}', '{agency}', '{area}', '{severity}', 'số {id}', {opened}, {resolved}, 1, '[]', {excused})"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let day_ago = (Timestamp::now() - jiff::SignedDuration::from_hours(24)).to_string();
    let since = format!("since={day_ago}");
    let rows: [(&str, &[i64], Option<i64>); 12] = [
        ("", &[10, 9, 8, 7], None),
        ("agency=hoi-an", &[9, 8], None),
        ("area=service", &[10, 9, 7], None),
        ("severity=critical", &[9, 7], None),
        ("state=open", &[8, 7], None),
        ("state=excused", &[8], None),
        ("state=resolved", &[10, 9], None),
        (&since, &[10, 8, 7], None),
        ("agency=hoi-an&state=resolved&area=", &[9], None),
        ("limit=2", &[10, 9], Some(9)),
        ("limit=2&before=9", &[8, 7], None),
        ("limit=3&severity=critical&before=9", &[7], None),
    ];
    for (query, expected, next) in rows {
        let path = format!("/api/ioc/v1/incidents?{query}");
        let (status, _, body) = ask(&house, request(Method::GET, &path)).await;
        assert_eq!(status, StatusCode::OK, "{query}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let ids: Vec<i64> = answer["incidents"].as_array().unwrap().iter().filter_map(|i| i["id"].as_i64()).collect();
        assert_eq!((ids.as_slice(), answer["next"].as_i64()), (expected, next), "{query}");
    }
    for query in ["area=x", "severity=page", "state=x", "since=x", "before=-1", "limit=0", "limit=201", "who=x"] {
        let path = format!("/api/ioc/v1/incidents?{query}");
        let (status, _, body) = ask(&house, request(Method::GET, &path)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
        assert!(body.starts_with("{\"error\":"), "{query}: {body}");
    }
    let page = async |query: &str| {
        let path = format!("/incidents?lang=vi&{query}");
        ask(&house, request(Method::GET, &path)).await.2.replace("&#x2f;", "/")
    };
    let all = page("").await;
    for id in 7..=10 {
        assert!(all.contains(&format!("href=\"/incidents/{id}?lang=vi\"")), "{id}:\n{all}");
    }
    let some = page("state=resolved&agency=hoi-an").await;
    assert!(some.contains("số 9") && !some.contains("số 10") && !some.contains("số 8"), "{some}");
    // The links keep what was chosen, and one takes the agency away.
    assert!(
        some.contains("href=\"/incidents?state=resolved&amp;severity=critical&amp;agency=hoi-an&amp;lang=vi\""),
        "{some}"
    );
    assert!(some.contains("href=\"/incidents?state=resolved&amp;lang=vi\""), "{some}");
    assert!(page("state=x&before=y&severity=%00").await.contains("số 10"), "what cannot be read is not chosen");
    assert!(page("before=9").await.contains("số 8") && !page("before=9").await.contains("số 9"));
}

/// Serves the sample for a look with a browser: `IOC_WATCH_SHOW=127.0.0.1:9999 cargo test --lib web::tests::show`.
#[tokio::test]
async fn show() {
    let Ok(address) = std::env::var("IOC_WATCH_SHOW") else { return };
    let house = house().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(90)).await;
        stop.cancel();
    });
    super::serve(listener, house.router, None, shutdown).await.unwrap();
}

/// Every query of the shipped dashboard is PromQL that our own engine evaluates, too.
#[test]
fn dashboard_queries_parse() {
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../dashboards/overview.json")).unwrap();
    let mut n_queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            let expression = target["expr"].as_str().unwrap().replace("$agency", ".*");
            if let Err(error) = crate::promql::Query::parse(&expression) {
                panic!("{}: {expression}: {error}", panel["title"]);
            }
            n_queries += 1;
        }
    }
    assert!(n_queries > 20, "{n_queries}");
}
