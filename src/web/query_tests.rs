//! The query API, called in process. Beside a real Prometheus it stands in `tests/e2e/query_api.rs`.

use crate::config::Problems;
use crate::rules::{self, Ruler};
use crate::web::door_tests::{as_user, locked};
use crate::web::tests::{CONFIG, House, house_with, request};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

async fn answer(house: &House, request: Request<Body>) -> (StatusCode, Value) {
    let response = house.router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {body:?}")))
}

async fn get(house: &House, path: &str) -> (StatusCode, Value) {
    answer(house, request(Method::GET, path)).await
}

async fn data(house: &House, path: &str) -> Value {
    let (status, answer) = get(house, path).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("success")), "{path}: {answer}");
    answer["data"].clone()
}

fn post(path: &str, body: &str) -> Request<Body> {
    let mut request = request(Method::POST, path);
    *request.body_mut() = Body::from(body.to_owned());
    let kind = "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap();
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    request
}

/// Sampled once.
async fn house() -> House {
    let house = house_with(CONFIG, &[]).await;
    house.state.history().sample(house.state.metrics(), Timestamp::now());
    house
}

#[tokio::test]
async fn failures_have_the_shape_and_status_of_prometheus() {
    let house = house().await;
    let rows = [
        ("query?query=sum(", 400, "bad_data", "invalid parameter \"query\""),
        ("query?query=up&time=x", 400, "bad_data", "cannot parse \"x\" to a valid timestamp"),
        ("query?query=up&limit=-1", 400, "bad_data", "limit must be non-negative"),
        ("query?query=up&timeout=soon", 400, "bad_data", "cannot parse \"soon\" to a valid duration"),
        ("query?query=rate(up%5B5m%5D%20smoothed)", 400, "bad_data", "the modifier smoothed is not supported"),
        (
            "query?query=ioc_device_up*on(kind)ioc_device_up",
            422,
            "execution",
            "found duplicate series for the match group",
        ),
        ("query?query=vector(1)&timeout=0", 503, "timeout", "query timed out"),
        ("query_range?query=up&start=1&end=0&step=1", 400, "bad_data", "end timestamp must not be before start time"),
        ("query_range?query=up&start=0&end=1&step=0", 400, "bad_data", "zero or negative query resolution step"),
        ("query_range?query=up&start=0&end=11001&step=1", 400, "bad_data", "exceeded maximum resolution of 11,000"),
        ("query_range?query=up%5B5m%5D&start=0&end=1&step=1", 400, "bad_data", "invalid expression type"),
        ("query_range?query=up&end=1&step=1", 400, "bad_data", "invalid parameter \"start\""),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]=%7B%7D", 400, "bad_data", "at least one non-empty matcher"),
        ("labels?start=x", 400, "bad_data", "invalid parameter \"start\""),
        ("metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("rules?type=x", 400, "bad_data", "not supported value"),
        ("rules?group_next_token=x", 400, "bad_data", "group_limit needs to be present"),
    ];
    for (path, status, kind, message) in rows {
        let (found, answer) = get(&house, &format!("/api/v1/{path}")).await;
        assert_eq!((found.as_u16(), &answer["status"]), (status, &json!("error")), "{path}: {answer}");
        assert_eq!(answer["errorType"], kind, "{path}");
        assert!(answer["error"].as_str().unwrap().contains(message), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_form_is_read_from_the_body_and_from_the_address() {
    let house = house().await;
    let query = "query=count(ioc_device_up%7Bkind%3D%22camera%22%7D)";
    let (_, by_get) = get(&house, &format!("/api/v1/query?time=4e9&{query}&lookback_delta=100y")).await;
    let body = format!("{query}&lookback_delta=100y");
    let (_, by_post) = answer(&house, post("/api/v1/query?query=1&time=4e9", &body)).await;
    assert_eq!(by_get, by_post);
    assert_eq!(by_get["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_u64, "12"]}]));
    let (status, refused) = answer(&house, post("/api/v1/query", &"x".repeat(1_100_000))).await;
    assert_eq!((status, &refused["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
    let long = format!("query={}", "x".repeat(100_000));
    let (status, refused) = answer(&house, post("/api/v1/query", &long)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["error"].as_str().unwrap().contains("the query has 100000 bytes"), "{refused}");
    let (_, matched) =
        answer(&house, post("/api/v1/series", "match[]=ioc_agency_score&match[]=ioc_payment_mismatches_open")).await;
    assert_eq!(matched["data"].as_array().unwrap().len(), 2, "{matched}");
}

#[tokio::test]
async fn what_prometheus_remarks_on_a_query_is_remarked_here() {
    let house = house().await;
    let sort = "query_range?start=1&end=1&step=1&query=sum(sort(ioc_device_up))";
    let quantile = "query?query=quantile(1.5,ioc_device_up)";
    let rate = "query?query=rate(vector(1)[1m:1s])%0A%2Brate(ioc_device_up[5m:1s])";
    let told = "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:5)";
    let invalid = "PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)";
    let no_counter = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
                      \"ioc_device_up\" (2:7)";
    for (path, warnings, infos) in [
        (sort, json!([told]), Value::Null),
        (quantile, json!([invalid]), Value::Null),
        (rate, Value::Null, json!([no_counter])),
    ] {
        let separator = if path.starts_with("query?") { "&time=4e9&lookback_delta=100y" } else { "" };
        let (status, answer) = get(&house, &format!("/api/v1/{path}{separator}")).await;
        assert_eq!((status, &answer["warnings"], &answer["infos"]), (StatusCode::OK, &warnings, &infos), "{answer}");
    }
}

#[tokio::test]
async fn results_are_cut_off_where_the_caller_says_and_say_so() {
    let house = house().await;
    for path in [
        "query?query=ioc_device_up&time=4e9&lookback_delta=100y",
        "series?match[]=ioc_device_up",
        "label/device/values?",
        "labels?",
    ] {
        let (_, all) = get(&house, &format!("/api/v1/{path}")).await;
        let (_, some) = get(&house, &format!("/api/v1/{path}&limit=3")).await;
        let list = |answer: &Value| answer["data"]["result"].as_array().or(answer["data"].as_array()).unwrap().clone();
        assert_eq!(list(&some), list(&all)[..3], "{path}");
        assert_eq!(some["warnings"], json!(["results truncated due to limit"]), "{path}");
        assert_eq!(all["warnings"], Value::Null, "{path}");
    }
    // A million samples of one series, and of too many.
    let (status, answer) = get(&house, "/api/v1/query?query=count_over_time(vector(1)[1000000s:1s])").await;
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (StatusCode::OK, &json!("1000000")));
    let (status, answer) = get(&house, "/api/v1/query?query=count_over_time(vector(1)[3000000s:1s])").await;
    assert_eq!((status, &answer["errorType"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("execution")), "{answer}");
}

#[tokio::test]
async fn labels_values_series_and_metadata_are_listed() {
    let house = house().await;
    let score = json!([{"__name__": "ioc_agency_score", "agency": "hoi-an"}]);
    assert_eq!(data(&house, "/api/v1/series?match[]=ioc_agency_score").await, score);
    let later = Timestamp::now().as_second() + 3600;
    assert_eq!(data(&house, &format!("/api/v1/series?match[]=ioc_agency_score&start={later}")).await, json!([]));
    assert_eq!(data(&house, "/api/v1/labels?match[]=ioc_agency_score").await, json!(["__name__", "agency"]));
    let kinds = data(&house, "/api/v1/label/kind/values?match[]=ioc_device_up").await;
    assert_eq!(kinds, json!(["camera", "hotspot"]));
    let names = data(&house, "/api/v1/label/__name__/values").await;
    assert!(names.as_array().unwrap().contains(&json!("ioc_device_up")), "{names}");
    let one = data(&house, "/api/v1/metadata?metric=ioc_emails_total").await;
    let help = "Mails by what became of them: sent, retried, failed, bounced (sent before), held (for a summary).";
    house.state.metrics().own.emails.with_label_values(&["sent"]).inc();
    let known = data(&house, "/api/v1/metadata?metric=ioc_emails_total").await;
    assert_eq!(one, json!({}));
    assert_eq!(known, json!({"ioc_emails_total": [{"type": "counter", "help": help, "unit": ""}]}));
    assert_eq!(data(&house, "/api/v1/metadata?limit=2").await.as_object().unwrap().len(), 2);
    assert_eq!(data(&house, "/api/v1/query_exemplars?query=x&start=0&end=1").await, json!([]));
    assert_eq!(data(&house, "/api/v1/status/buildinfo").await["version"], "3.0.0");
}

const RULES: &str = r#"
groups:
  - name: devices
    interval: 30s
    rules:
      - record: agency:ioc_device_up:avg
        expr: avg by (agency) (ioc_device_up)
        labels: {origin: rule}
      - alert: DeviceDown
        expr: ioc_device_up == 0
        labels: {severity: warning, area: camera}
        annotations: {summary: "{{ $labels.device }}", summary_en: b, description: c, description_en: d, runbook: e}
  - name: portals
    rules:
      - alert: Broken
        expr: ioc_device_up * on (kind) ioc_device_up > 0
        for: 5m
        labels: {severity: warning, area: camera, agency: ioc}
        annotations: {summary: a, summary_en: b, description: c, description_en: d, runbook: e}
"#;

/// With a ruler that evaluated every group once.
fn rule(house: &House) -> Timestamp {
    let file = house.dir.path().join("rules.yml");
    std::fs::write(&file, RULES).unwrap();
    let mut problems = Problems::default();
    let set = rules::load(&[file], Duration::from_secs(15), &mut problems);
    assert_eq!(problems.into_sorted(), []);
    let now = Timestamp::now();
    house.state.history().sample(house.state.metrics(), now);
    let mut ruler = Ruler::new(set, "http://ioc", BTreeMap::new(), now);
    for group in 0..ruler.groups().len() {
        ruler.evaluate(group, &**house.state.history(), now);
    }
    house.state.rules().show(Some(Arc::new(Mutex::new(ruler))));
    now
}

#[tokio::test]
async fn rules_and_alerts_are_listed_as_they_stand() {
    let house = house_with(CONFIG, &[]).await;
    assert_eq!(data(&house, "/api/v1/rules").await, json!({"groups": []}));
    let now = rule(&house);
    let listed = data(&house, "/api/v1/rules").await;
    let [devices, portals] = &listed["groups"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&devices["name"], &devices["interval"], &devices["limit"]), (&json!("devices"), &json!(30), &json!(0)));
    let (recording, alerting) = (&devices["rules"][0], &devices["rules"][1]);
    assert_eq!((&recording["type"], &recording["health"]), (&json!("recording"), &json!("ok")));
    assert_eq!(recording["labels"], json!({"origin": "rule"}));
    assert_eq!((&alerting["state"], &alerting["query"]), (&json!("firing"), &json!("ioc_device_up == 0")));
    assert_eq!(alerting["annotations"]["summary"], "{{ $labels.device }}");
    let alert = &alerting["alerts"][0];
    assert_eq!((&alert["state"], &alert["value"]), (&json!("firing"), &json!("0e+00")), "{alert}");
    assert_eq!(alert["annotations"]["summary"], alert["labels"]["device"]);
    assert_eq!(alert["activeAt"], now.to_string());
    let broken = &portals["rules"][0];
    assert_eq!(
        (&broken["health"], &broken["state"], &broken["duration"]),
        (&json!("err"), &json!("inactive"), &json!(300))
    );
    assert!(broken["lastError"].as_str().unwrap().contains("duplicate series"), "{broken}");
    let alerts = data(&house, "/api/v1/alerts").await;
    assert_eq!(alerts["alerts"], alerting["alerts"]);
}

#[tokio::test]
async fn rules_are_chosen_by_name_group_file_type_label_and_page() {
    let house = house_with(CONFIG, &[]).await;
    rule(&house);
    let names = async |query: &str| -> Vec<String> {
        let listed = data(&house, &format!("/api/v1/rules?{query}")).await;
        let rules = listed["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("type=record").await, ["agency:ioc_device_up:avg"]);
    assert_eq!(names("type=alert").await, ["DeviceDown", "Broken"]);
    assert_eq!(names("rule_name[]=Broken&rule_name[]=x").await, ["Broken"]);
    assert_eq!(names("rule_group[]=devices").await, ["agency:ioc_device_up:avg", "DeviceDown"]);
    assert_eq!(names("file[]=x").await, Vec::<String>::new());
    assert_eq!(names("match[]=%7Borigin%3D%22rule%22%7D").await, ["agency:ioc_device_up:avg"]);
    let first = data(&house, "/api/v1/rules?group_limit=1").await;
    let token: String =
        url::form_urlencoded::byte_serialize(first["groupNextToken"].as_str().unwrap().as_bytes()).collect();
    assert_eq!(first["groups"].as_array().unwrap().len(), 1);
    assert_eq!(names(&format!("group_limit=1&group_next_token={token}")).await, ["Broken"]);
    let quiet = data(&house, "/api/v1/rules?exclude_alerts=true&type=alert").await;
    assert_eq!(quiet["groups"][0]["rules"][0]["alerts"], json!([]));
}

/// Whatever is listed, somebody of one agency finds nothing of another in it.
#[tokio::test]
async fn what_is_listed_keeps_to_the_agency() {
    let house = locked("").await;
    rule(&house);
    let ways = [
        "series?match[]=%7B__name__!%3D%22%22%7D",
        "labels",
        "label/agency/values",
        "label/device/values",
        "label/__name__/values",
        "rules",
        "alerts",
        "query?query=%7B__name__!%3D%22%22%7D%5B5m%5D",
    ];
    for way in ways {
        let path = format!("/api/v1/{way}");
        let (status, all) = answer(&house, as_user(request(Method::GET, &path), "viewer")).await;
        assert_eq!(status, StatusCode::OK, "{way}: {all}");
        let (status, own) = answer(&house, as_user(request(Method::GET, &path), "viewer-tk")).await;
        assert_eq!(status, StatusCode::OK, "{way}: {own}");
        for foreign in ["hoi-an", "nui-thanh", "ioc_watch_", "\"d-", "duplicate series"] {
            assert!(!own.to_string().contains(foreign), "{way} shows {foreign}:\n{own}");
        }
        assert!(all.to_string().len() > own.to_string().len(), "{way}");
    }
    let own = as_user(request(Method::GET, "/api/v1/label/agency/values"), "viewer-tk");
    assert_eq!(answer(&house, own).await.1["data"], json!(["tam-ky"]));
}
