//! Tests of `alerts_v2.rs`: over a real socket, as Prometheus and amtool would.

use super::*;
use crate::alert::Alert;
use crate::config;
use crate::mail::Outbox;
use crate::metrics::Metrics;
use crate::org::Org;
use crate::store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves the API on a fresh database; the directory must live as long.
async fn serve() -> (std::net::SocketAddr, AlertsApi, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ioc-watch.yml");
    std::fs::write(&file, include_str!("../cli/init.yml")).unwrap();
    let config = config::load(&file).unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let store = Store::open(&config.state, dir.path()).await.unwrap();
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let now = Timestamp::now();
    let incidents = Incidents::resume(store.clone(), outbox, org, &config, metrics.clone(), now).await.unwrap();
    let api = AlertsApi { incidents: Arc::new(incidents), heartbeats: None, metrics, started: now };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/api/v2", routes(api.clone())).layer(Extension(Identity::local()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, api, dir)
}

/// What the counter of refusals says of a reason.
fn refused(api: &AlertsApi, reason: &str) -> u64 {
    api.metrics.own.alert_api_refused.with_label_values(&[reason]).get()
}

async fn ask(address: std::net::SocketAddr, request: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // A server that refuses a body need not read it.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn posted_alerts_open_an_incident_and_are_listed() {
    let (address, api, _dir) = serve().await;
    let body = r#"[{"labels":{"alertname":"A","agency":"ioc","area":"service","severity":"critical","e":""},
        "annotations":{"summary":"hỏng"},"startsAt":"2026-11-23T10:00:00.5+07:00","endsAt":"0001-01-01T00:00:00Z",
        "generatorURL":"http://p/"},{"labels":{"alertname":"B"}}]"#;
    assert_eq!(ask(address, "POST /api/v2/alerts", body).await, (200, String::new()));
    let open = api.incidents.open();
    assert_eq!(open.len(), 2, "one of them misaddressed");
    let (status, listed) = ask(address, "GET /api/v2/alerts?filter=alertname%3D%22A%22&active=true", "").await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((status, listed.as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(listed[0]["startsAt"], "2026-11-23T03:00:00.5Z");
    assert_eq!(listed[0]["labels"]["e"], serde_json::Value::Null);
    assert_eq!(listed[0]["status"]["state"], "active");
    assert_eq!(ask(address, "GET /api/v2/alerts?active=false", "").await.1, "[]");
    assert_eq!(ask(address, "GET /api/v2/alerts?filter=alertname%3D~%22C%7CD%22", "").await.1, "[]");
    assert_eq!(ask(address, "GET /api/v2/receivers", "").await.1, r#"[{"name":"responsible"}]"#);
    assert_eq!(ask(address, "GET /api/v2/status", "").await.0, 200);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_its_neighbours_are_kept() {
    let (address, api, _dir) = serve().await;
    let good = r#"{"labels":{"alertname":"A","agency":"ioc","area":"service","severity":"warning"}}"#;
    let rows = [
        ("not JSON", "x".to_string(), 400),
        ("not an array", "{}".into(), 400),
        ("no labels", r#"[{"labels":{"a":""}}]"#.into(), 400),
        ("no label name", format!(r#"[{{"labels":{{"":"x"}}}},{good}]"#), 400),
        ("nothing", String::new(), 422),
        ("an alert without labels", format!(r#"[{{}},{good}]"#), 422),
        (
            "an end before its start",
            r#"[{"labels":{"a":"x"},"startsAt":"2026-01-02T00:00:00Z","endsAt":"2026-01-01T00:00:00Z"}]"#.into(),
            400,
        ),
        ("too many alerts", format!("[{}]", vec![r#"{"labels":{"a":"x"}}"#; ALERTS + 1].join(",")), 413),
        ("too long", format!("[{}]", " ".repeat(BODY)), 413),
    ];
    for (name, body, expected) in rows {
        assert_eq!(ask(address, "POST /api/v2/alerts", &body).await.0, expected, "{name}");
    }
    assert_eq!(api.incidents.firing().len(), 1, "the good neighbour of the bad ones");
    assert_eq!(ask(address, "GET /api/v2/alerts?filter=x", "").await.0, 400);
    let counted = ["malformed", "invalid", "too_large", "query", "foreign"].map(|reason| refused(&api, reason));
    assert_eq!(counted, [4, 3, 2, 1, 0]);
}

/// What is sent to break it: bounded in memory and time, refused in words, counted.
#[tokio::test]
async fn hostile_requests_are_refused_and_cost_little() {
    let (address, api, _dir) = serve().await;
    let labels = |n: usize| (0..n).map(|index| format!("\"l{index}\":\"x\"")).collect::<Vec<_>>().join(",");
    let posts = [
        ("deep arrays", "[".repeat(1_000_000), 400),
        ("deep objects", format!("[{}", "{\"labels\":".repeat(100_000)), 400),
        ("10,000 labels", format!("[{{\"labels\":{{{}}}}}]", labels(10_000)), 400),
        ("a label of 3 MiB", format!("[{{\"labels\":{{\"a\":\"{}\"}}}}]", "x".repeat(3 << 20)), 400),
        ("half a character", "[{\"labels\":{\"a\":\"\\ud800\"}}]".into(), 400),
        ("a number for a label", r#"[{"labels":{"a":1e999}}]"#.into(), 400),
        ("a year that is none", r#"[{"labels":{"a":"x"},"startsAt":"99999-01-01T00:00:00Z"}]"#.into(), 400),
    ];
    for (name, body, expected) in posts {
        let (status, answer) = ask(address, "POST /api/v2/alerts", &body).await;
        assert_eq!(status, expected, "{name}: {answer}");
        assert!(answer.len() < 1_000, "{name}: {} bytes of answer", answer.len());
    }
    let long = "a".repeat(40_000);
    let questions = [
        ("a pattern that backtracks elsewhere", "filter=alertname%3D~%22(a%2B)%2B%24%22".to_string(), 200),
        ("a pattern that grows", "filter=alertname%3D~%22((x%7B1000%7D)%7B1000%7D)%7B1000%7D%22".into(), 400),
        ("a deep pattern", format!("filter=alertname%3D~%22{}%22", "(".repeat(10_000)), 400),
        ("a receiver that is no pattern", "receiver=%28".into(), 400),
        ("a receiver's label", "receiver_matchers=team%3Dx".into(), 200),
        ("many filters", "filter=a%3Db&".repeat(FILTERS + 1), 400),
        ("a long filter", format!("filter=a%3D{long}"), 200),
        ("bytes that are no text", "filter=a%3D%FF%00".into(), 200),
    ];
    for (name, query, expected) in questions {
        let (status, answer) = ask(address, &format!("GET /api/v2/alerts?{query}"), "").await;
        assert_eq!(status, expected, "{name}: {answer}");
    }
    assert!(api.incidents.firing().is_empty());
    assert_eq!(["malformed", "invalid", "query"].map(|reason| refused(&api, reason)), [5, 2, 4]);
}

/// The fingerprints are those of Alertmanager 0.25, by which karma and Grafana link: taken from a running one.
#[tokio::test]
async fn fingerprints_and_order_are_those_of_alertmanager() {
    let (address, _api, _dir) = serve().await;
    let body = r#"[{"labels":{"alertname":"ok"}},{"labels":{"a":"x"}}]"#;
    assert_eq!(ask(address, "POST /api/v2/alerts", body).await.0, 200);
    let listed: serde_json::Value = serde_json::from_str(&ask(address, "GET /api/v2/alerts", "").await.1).unwrap();
    let fingerprints: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|a| a["fingerprint"].as_str()).collect();
    assert_eq!(fingerprints, ["01167342b0fed1b2", "d2c7718192a8a294"]);
}

/// Two senders of one alert: it began when the first saw it, and fires as long as one says.
#[tokio::test]
async fn two_senders_of_one_alert_make_one_alert_that_neither_cuts_short() {
    let (address, api, _dir) = serve().await;
    let now = Timestamp::now();
    let minutes = |minutes: i64| now + jiff::SignedDuration::from_mins(minutes);
    let send = async |severity: &str, starts: i64, ends: i64| {
        let body = serde_json::json!([{"labels": {"alertname": "A", "agency": "ioc", "area": "service", "severity": severity},
            "startsAt": minutes(starts), "endsAt": minutes(ends)}]);
        assert_eq!(ask(address, "POST /api/v2/alerts", &body.to_string()).await.0, 200);
    };
    // What is only recorded is an alert like others.
    for severity in ["critical", "info"] {
        send(severity, -10, 4).await;
        send(severity, -2, 1).await;
        let firing = api.incidents.firing();
        let found = firing.iter().find(|alert| alert.label("severity") == severity).unwrap();
        assert_eq!((found.starts_at, found.ends_at), (minutes(-10), Some(minutes(4))), "{severity}");
        send(severity, -2, 9).await;
        let firing = api.incidents.firing();
        assert_eq!(firing.iter().filter(|alert| alert.ends_at == Some(minutes(9))).count(), 1, "{severity}");
        send(severity, -2, 0).await;
        assert_eq!(api.incidents.firing().iter().filter(|alert| alert.label("severity") == severity).count(), 0);
    }
    assert_eq!(api.incidents.open().len(), 1);
    let received = |status| api.metrics.own.alerts_received.with_label_values(&[status]).get();
    assert_eq!((received("firing"), received("resolved")), (6, 2));
}

#[test]
fn matchers_are_read_as_amtool_writes_them() {
    let alert = Alert {
        labels: [("a".to_string(), "x \"y".to_string())].into(),
        annotations: Default::default(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    };
    let rows = [
        (r#"a="x \"y""#, true),
        (r#"{a="x \"y"}"#, true),
        ("a!=x", true),
        (r#"a=~"x.*""#, true),
        ("a=~x", false),
        ("a!~x.*", false),
        ("b=", true),
    ];
    for (text, expected) in rows {
        assert_eq!(Matcher::parse(text).map(|matcher| matcher.matches(&alert.labels)), Ok(expected), "{text}");
    }
    for text in ["", "a", "=x", "a b=x", "a=~("] {
        assert!(Matcher::parse(text).is_err(), "{text}");
    }
}
