//! `openapi.json` beside what the routes do: it describes every one of them, and their answers are as it says. The judge
//! of answers is Debian's python3-jsonschema.

use super::tests::{House, ask, house, request};
use super::{acts, heartbeats, outbox};
use crate::alert::Alert;
use crate::attribution::Graph;
use crate::config::Id;
use crate::config::heartbeat::{In, Sign};
use crate::heartbeat::Heartbeats;
use crate::incident::Incidents;
use crate::mail::Outbox;
use crate::org::Org;
use axum::body::Body;
use axum::http::{Method, header};
use jiff::{SignedDuration, Timestamp};
use judge::{Case, Draft, judge};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "the other draft is for other documents")]
#[path = "../../tests/support/judge.rs"]
mod judge;

const BELOW: &str = "/api/ioc/v1/";

fn document() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

/// `METHOD path` of everything that the document describes.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

#[test]
fn every_route_of_the_access_table_is_described_and_no_other() {
    let routes = super::access::ROUTES.iter().filter(|route| route.path.starts_with(BELOW));
    let table: BTreeSet<String> = routes.map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(described(&document()), table, "left: openapi.json, right: access.rs");
}

#[test]
fn every_reference_leads_somewhere_and_every_parameter_of_a_path_is_described() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    assert!(found.len() > 40);
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let named: BTreeSet<&str> = in_path.filter_map(|parameter| parameter["name"].as_str()).collect();
            let expected: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            assert_eq!(named, expected, "{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}: named twice");
        }
    }
}

/// A house with an incident that fires, devices, a dependency, a report: something for every answer to show.
async fn furnished() -> (House, i64) {
    let mut house = house().await;
    house.state.ledger().set_graph(Graph::new(&house.state.config(), []));
    let (config, store, metrics) = (house.state.config(), house.state.store().clone(), house.state.metrics().clone());
    let mails = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let now = Timestamp::now();
    let incidents = Incidents::resume(store.clone(), mails.clone(), org, &config, metrics, now).await.unwrap();
    let labels = [("alertname", "A"), ("agency", "ioc"), ("area", "service"), ("severity", "critical")];
    let alert = Alert {
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        annotations: [("summary".to_owned(), "hỏng".to_owned())].into(),
        starts_at: now,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    };
    incidents.receive(&[alert], now).await.unwrap();
    let id = incidents.open().iter().find(|incident| incident.agency == "ioc").unwrap().id;
    // The first mail is written, and waits.
    incidents.tick(now + SignedDuration::from_mins(1)).await.unwrap();
    let mut expecting = (*config).clone();
    let id_of = |text| Id::parse(text).unwrap();
    let peer = In { id: id_of("ban"), agency: None, within: Duration::from_secs(180), sign: Sign::Posted };
    expecting.heartbeat.r#in.push(peer);
    let metrics = house.state.metrics().clone();
    let heard = Heartbeats::resume(store, metrics, &expecting, Instant::now()).await.unwrap();
    let extra = acts::routes(house.state.clone(), Arc::new(incidents)).merge(outbox::routes(mails));
    let extra = extra.merge(heartbeats::routes(Arc::new(heard)));
    let extra =
        extra.merge(super::devices::routes(house.state.clone(), super::devices_tests::fleet(&house.state).await));
    house.router = super::router(house.state.clone(), extra);
    (house, id)
}

/// Rows need feeds: these are asked in `gather/payment/push_tests.rs` and `tests/e2e/feeds.rs`.
const HANDED_IN: [&str; 3] =
    ["POST /api/ioc/v1/payments/gateway", "POST /api/ioc/v1/payments/portal", "POST /api/ioc/v1/usage"];

/// Of a mail that is not ours.
const REPORT: &str = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
    Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.vn.example\r\n\r\n\
    Final-Recipient: rfc822; truc@vn.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n";

#[tokio::test]
async fn answers_are_as_described() {
    let (house, id) = furnished().await;
    let document = document();
    let now = Timestamp::now();
    let [ahead, further, ago] = [1, 2, -1].map(|hours| (now + SignedDuration::from_hours(hours)).to_string());
    let window = json!({"services": ["dvc-tam-ky"], "from": ahead, "to": further, "reason": "nâng cấp"});
    let judged = json!({"kind": "service", "subject": "dvc-tam-ky", "from": ago, "to": now.to_string(), "cause": "telecom", "reason": "đứt cáp"});
    let act = |action: &str| format!("POST incidents/{id}/{action}");
    let asked: Vec<(String, Value, u16)> = vec![
        ("GET openapi.json".into(), Value::Null, 200),
        ("GET agencies".into(), Value::Null, 200),
        ("GET mismatches?state=all".into(), Value::Null, 200),
        ("GET mismatches?kind=lost".into(), Value::Null, 400),
        ("GET devices".into(), Value::Null, 200),
        ("GET devices?limit=1".into(), Value::Null, 200),
        ("GET devices?kind=toaster".into(), Value::Null, 400),
        ("GET services".into(), Value::Null, 200),
        ("GET incidents".into(), Value::Null, 200),
        ("GET incidents?limit=1".into(), Value::Null, 200),
        ("GET incidents?severity=page".into(), Value::Null, 400),
        (format!("GET incidents/{id}"), Value::Null, 200),
        ("GET incidents/999".into(), Value::Null, 404),
        (act("acknowledge"), Value::Null, 200),
        (act("comment"), json!({"text": "đang xem"}), 200),
        (act("comment"), json!({}), 400),
        (act("silence"), json!({"text": "nâng cấp", "for": "4h"}), 200),
        (act("silence"), json!({"text": "nâng cấp", "for": "4 years"}), 400),
        (act("burn"), json!({"text": "x"}), 404),
        (format!("GET incidents/{id}"), Value::Null, 200),
        (act("resolve"), json!({"text": "xong"}), 200),
        (act("resolve"), json!({"text": "xong"}), 409),
        (format!("GET incidents/{id}"), Value::Null, 200),
        ("GET incidents?state=resolved".into(), Value::Null, 200),
        ("GET scorecards".into(), Value::Null, 200),
        ("GET availability".into(), Value::Null, 200),
        ("GET availability?cause=x".into(), Value::Null, 400),
        ("POST overrides".into(), judged, 201),
        ("POST overrides".into(), json!({}), 422),
        ("GET overrides".into(), Value::Null, 200),
        ("GET availability?subject=dvc-tam-ky".into(), Value::Null, 200),
        ("DELETE overrides/1".into(), Value::Null, 204),
        ("DELETE overrides/999".into(), Value::Null, 404),
        ("GET overrides?from=x".into(), Value::Null, 400),
        ("POST maintenance".into(), window, 201),
        ("POST maintenance".into(), json!({"from": "x", "to": "y", "reason": "z"}), 400),
        ("GET maintenance".into(), Value::Null, 200),
        ("DELETE maintenance/1".into(), Value::Null, 204),
        ("DELETE maintenance/999".into(), Value::Null, 404),
        ("GET dependencies".into(), Value::Null, 200),
        ("GET heartbeats".into(), Value::Null, 200),
        ("POST heartbeats/ban".into(), Value::Null, 204),
        ("POST heartbeats/khong-co".into(), Value::Null, 404),
        ("GET heartbeats".into(), Value::Null, 200),
        ("GET outbox".into(), Value::Null, 200),
        ("GET outbox?state=x".into(), Value::Null, 400),
        ("POST bounces".into(), REPORT.into(), 200),
        ("POST bounces".into(), "no report".into(), 422),
    ];
    let (mut cases, mut seen) = (Vec::new(), BTreeSet::new());
    for (what, body, expected) in asked {
        let (method, rest) = what.split_once(' ').unwrap();
        let mut asked = request(Method::from_bytes(method.as_bytes()).unwrap(), &format!("{BELOW}{rest}"));
        if !body.is_null() {
            let (kind, sent) = match &body {
                Value::String(message) => ("message/rfc822", message.clone()),
                json => ("application/json", json.to_string()),
            };
            asked.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
            *asked.body_mut() = Body::from(sent);
        }
        let (status, headers, answer) = ask(&house, asked).await;
        assert_eq!(status.as_u16(), expected, "{what} {body}: {answer}");
        let path = path_of(&document, rest.split('?').next().unwrap());
        let operation = &document["paths"][&path][method.to_lowercase()];
        seen.insert(format!("{method} {path}"));
        let described = &operation["responses"][status.as_str()];
        assert!(described.is_object(), "{what}: {status} is not described");
        if expected < 300 && !body.is_null() {
            let kind = if body.is_string() { "message/rfc822" } else { "application/json" };
            let schema = operation["requestBody"]["content"][kind]["schema"].clone();
            cases.push(Case { name: format!("the body of {what}"), schema, instance: body });
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        match described["content"].get(kind) {
            Some(content) => {
                let instance =
                    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{what}: {error}: {answer}"));
                cases.push(Case { name: what, schema: content["schema"].clone(), instance });
            }
            None => assert!(described.get("content").is_none() && answer.is_empty(), "{what}: {kind:?} {answer:?}"),
        }
    }
    seen.extend(HANDED_IN.map(str::to_owned));
    assert_eq!(seen, described(&document), "every operation was asked");
    let verdicts = judge(Draft::Of2020, &document, &cases);
    assert!(verdicts.is_empty(), "{}", verdicts.join("\n"));
}

/// The path of the document that a request is for.
fn path_of(document: &Value, rest: &str) -> String {
    let asked: Vec<&str> = rest.split('/').collect();
    let fits = |path: &&String| {
        let parts: Vec<&str> = path.strip_prefix(BELOW).unwrap_or("").split('/').collect();
        parts.len() == asked.len()
            && parts.iter().zip(&asked).all(|(part, asked)| part.starts_with('{') || part == asked)
    };
    document["paths"].as_object().unwrap().keys().find(fits).unwrap_or_else(|| panic!("{rest}")).clone()
}
