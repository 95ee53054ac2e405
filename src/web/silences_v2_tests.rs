//! Tests of `silences_v2.rs`: through the whole router and its guard, as `amtool` and karma would.

use super::super::alerts_v2;
use super::super::door_tests::{as_user, locked};
use super::super::tests::{House, ask, request};
use super::*;
use crate::incident::Incidents;
use crate::mail::Outbox;
use crate::org::Org;
use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// A house with users and the alert API.
async fn house() -> (House, Arc<Incidents>) {
    let mut house = locked("").await;
    let (config, store, metrics) = (house.state.config(), house.state.store().clone(), house.state.metrics().clone());
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let now = Timestamp::now();
    let incidents = Incidents::resume(store.clone(), outbox, org, &config, metrics.clone(), now).await.unwrap();
    let incidents = Arc::new(incidents);
    let api = AlertsApi { incidents: incidents.clone(), heartbeats: None, metrics, started: now };
    house.router = crate::web::router(house.state.clone(), Router::new().nest("/api/v2", alerts_v2::routes(api)));
    (house, incidents)
}

async fn send(house: &House, user: &str, mut request: Request<Body>, body: Option<Value>) -> (u16, Value) {
    if let Some(body) = body {
        request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        *request.body_mut() = Body::from(body.to_string());
    }
    let (status, _, text) = ask(house, as_user(request, user)).await;
    (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn silence(id: &str, matchers: Value, minutes: i64) -> Value {
    let now = Timestamp::now();
    let end = now + jiff::SignedDuration::from_mins(minutes);
    json!({"id": id, "matchers": matchers, "startsAt": now, "endsAt": end, "createdBy": "ai đó", "comment": "nâng cấp"})
}

fn matcher(name: &str, value: &str) -> Value {
    json!([{"name": name, "value": value, "isRegex": false, "isEqual": true}])
}

fn post(path: &str) -> Request<Body> {
    request(Method::POST, path)
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path)
}

fn alert(name: &str, agency: &str) -> Value {
    json!([{"labels": {"alertname": name, "agency": agency, "area": "service", "severity": "warning"}}])
}

#[tokio::test]
async fn a_silence_is_made_seen_changed_and_ended() {
    let (house, incidents) = house().await;
    assert_eq!(send(&house, "operator", post("/api/v2/alerts"), Some(alert("A", "tam-ky"))).await.0, 200);
    let wanted = silence("", matcher("alertname", "A"), 60);
    let (status, made) = send(&house, "operator", post("/api/v2/silences"), Some(wanted)).await;
    assert_eq!(status, 200, "{made}");
    let id = made["silenceID"].as_str().unwrap().to_owned();

    let (_, listed) = send(&house, "viewer", get("/api/v2/silences?filter=alertname%3DA"), None).await;
    let first = &listed[0];
    assert_eq!((first["id"].as_str(), &first["status"]["state"]), (Some(id.as_str()), &json!("active")), "{listed}");
    assert_eq!(first["matchers"], matcher("alertname", "A"));
    assert_eq!(send(&house, "viewer", get("/api/v2/silences?filter=alertname%3DB"), None).await.1, json!([]));
    let (_, alerts) = send(&house, "viewer", get("/api/v2/alerts?filter=alertname%3DA"), None).await;
    assert_eq!(
        alerts[0]["status"],
        json!({"state": "suppressed", "silencedBy": [id], "inhibitedBy": [], "mutedBy": []})
    );
    assert_eq!(
        send(&house, "viewer", get("/api/v2/alerts?silenced=false&filter=alertname%3DA"), None).await.1,
        json!([])
    );
    let (_, groups) = send(&house, "viewer", get("/api/v2/alerts/groups?filter=alertname%3DA"), None).await;
    assert_eq!(groups[0]["labels"], json!({"agency": "tam-ky", "area": "service"}), "{groups}");
    assert_eq!(groups[0]["alerts"][0]["fingerprint"], alerts[0]["fingerprint"]);

    incidents.tick(Timestamp::now()).await.unwrap();
    let (_, page) = (0, ask(&house, as_user(get("/incidents?lang=vi"), "viewer")).await.2);
    assert!(page.contains("nâng cấp") && page.contains("Đang tạm tắt thông báo: 1"), "{page}");
    let button = |page: &str| page.contains(&format!("action=\"/silences/{id}"));
    let page = ask(&house, as_user(get("/silences?lang=vi"), "viewer")).await.2;
    assert!(page.contains("nâng cấp") && page.contains("◆ đang tắt") && page.contains("ai đó"), "{page}");
    assert!(!button(&page), "a viewer may not end it");
    assert!(button(&ask(&house, as_user(get("/silences"), "operator")).await.2));

    let other = silence(&id, matcher("alertname", "B"), 60);
    let (_, changed) = send(&house, "operator", post("/api/v2/silences"), Some(other)).await;
    assert_ne!(changed["silenceID"], json!(id), "another matcher makes another silence");
    assert_eq!(
        send(&house, "viewer", get(&format!("/api/v2/silence/{id}")), None).await.1["status"]["state"],
        "expired"
    );
    let id = changed["silenceID"].as_str().unwrap();
    let end = |id: &str| request(Method::DELETE, &format!("/api/v2/silence/{id}"));
    assert_eq!(send(&house, "viewer", end(id), None).await.0, 403);
    assert_eq!(send(&house, "operator", end(id), None).await.0, 200);
    assert_eq!(send(&house, "operator", end("x"), None).await.0, 422);
    assert_eq!(send(&house, "operator", end("6d83a1a1-1b2c-4b2c-8b2c-6d83a1a11b2c"), None).await.0, 404);
    let (_, listed) = send(&house, "viewer", get("/api/v2/silences"), None).await;
    let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|silence| &silence["status"]["state"]).collect();
    assert_eq!(states, ["expired", "expired"]);
    assert_eq!(send(&house, "viewer", get("/api/v2/silences?expired=false"), None).await.1, json!([]));
    // A filter is a matcher of the silence, not of the alerts that it silences.
    let (_, none) = send(&house, "viewer", get("/api/v2/silences?filter=alertname%3D~A"), None).await;
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn what_cannot_be_used_is_refused() {
    let (house, _incidents) = house().await;
    let rows = [
        (json!([]), 400),
        (json!({}), 422),
        (silence("", json!([]), 60), 422),
        (silence("", json!([{"name": "a"}]), 60), 400),
        (silence("", matcher("a", &"x".repeat(20_000)), 60), 400),
        (silence("", matcher("a", ""), 60), 400),
        (silence("", json!([{"name": "a", "value": "(", "isRegex": true}]), 60), 400),
        (silence("", matcher("a", "b"), 0), 400),
        (silence("unknown", matcher("a", "b"), 60), 404),
        (silence("", matcher("tên xã", "Tiên Phước"), 60), 200),
    ];
    for (body, expected) in rows {
        let text = body.to_string();
        let answer = send(&house, "operator", post("/api/v2/silences"), Some(body)).await;
        assert_eq!(answer.0, expected, "{text}: {}", answer.1);
    }
    assert_eq!(send(&house, "viewer", get("/api/v2/silences?filter=x"), None).await.0, 400);
}

#[tokio::test]
async fn who_is_bound_to_an_agency_silences_and_sees_its_own_only() {
    let (house, _incidents) = house().await;
    let all = silence("", matcher("area", "service"), 60);
    assert_eq!(send(&house, "operator-tk", post("/api/v2/silences"), Some(all.clone())).await.0, 403);
    let foreign = silence("", matcher("agency", "hoi-an"), 60);
    assert_eq!(send(&house, "operator-tk", post("/api/v2/silences"), Some(foreign)).await.0, 403);
    let (_, made) = send(&house, "operator", post("/api/v2/silences"), Some(all)).await;
    let everybodys = made["silenceID"].as_str().unwrap();
    let own = silence("", matcher("agency", "tam-ky"), 60);
    assert_eq!(send(&house, "operator-tk", post("/api/v2/silences"), Some(own)).await.0, 200);
    let page = ask(&house, as_user(get("/silences"), "viewer-tk")).await.2;
    assert!(page.contains("agency=") && !page.contains("area="), "{page}");
    let (_, seen) = send(&house, "viewer-tk", get("/api/v2/silences"), None).await;
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(send(&house, "viewer-tk", get(&format!("/api/v2/silence/{everybodys}")), None).await.0, 404);
    let end = request(Method::DELETE, &format!("/api/v2/silence/{everybodys}"));
    assert_eq!(send(&house, "operator-tk", end, None).await.0, 404);
    // Nor may they take it over under the name of theirs.
    let taken = silence(everybodys, matcher("agency", "tam-ky"), 60);
    assert_eq!(send(&house, "operator-tk", post("/api/v2/silences"), Some(taken)).await.0, 404);
}
