//! Tests of `alerts_v2.rs`: over a real socket, as Prometheus and amtool would.

use super::*;
use crate::config;
use crate::mail::Outbox;
use crate::metrics::Metrics;
use crate::org::Org;
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
    let incidents = Incidents::resume(store.clone(), outbox, org, &config, metrics, now).await.unwrap();
    let api = AlertsApi { incidents: Arc::new(incidents), store, started: now };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/api/v2", routes(api.clone())).layer(Extension(Identity::local()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, api, dir)
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
        ("a bad label name", format!(r#"[{{"labels":{{"a b":"x"}}}},{good}]"#), 400),
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
    assert_eq!(api.incidents.firing().len(), 1, "the good neighbour of the bad label name");
    assert_eq!(ask(address, "GET /api/v2/alerts?filter=x", "").await.0, 400);
}

#[test]
fn matchers_are_read_as_amtool_writes_them() {
    let alert = Alert {
        labels: [("a".to_string(), "x \"y".to_string())].into(),
        annotations: BTreeMap::new(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: String::new(),
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
