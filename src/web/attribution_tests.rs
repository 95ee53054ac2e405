//! The API of attribution, called in process: what is accepted, and that nobody sees or writes what is not theirs.

use super::tests::{CONFIG, House, ask, house_with, request};
use crate::attribution::Graph;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

async fn house() -> House {
    let tokens = "server: {tokens: [{name: ops, token_file: ops.token, may: [query, silences]}, \
                  {name: tk, token_file: tk.token, may: [query, silences], agency: tam-ky}]}\n";
    let files = [("ops.token", "secret-of-ops"), ("tk.token", "secret-of-tk")];
    let house = house_with(&format!("{CONFIG}{tokens}"), &files).await;
    house.state.ledger().set_graph(Graph::new(&house.state.config(), []));
    house
}

fn by(token: &str, mut request: Request<Body>) -> Request<Body> {
    if !token.is_empty() {
        let value = format!("Bearer secret-of-{token}");
        request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
    }
    request
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let mut request = request(Method::POST, path);
    *request.body_mut() = Body::from(body.to_string());
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    request
}

fn window(services: &[&str], from_minutes: i64, reason: &str) -> Value {
    let from = Timestamp::now() + SignedDuration::from_mins(from_minutes);
    let to = from + SignedDuration::from_hours(1);
    json!({"services": services, "from": from.to_string(), "to": to.to_string(), "reason": reason})
}

#[tokio::test]
async fn maintenance_is_announced_for_what_is_ones_own_and_with_a_reason() {
    let house = house().await;
    let rows = [
        ("tk", window(&["dvc-tam-ky"], 60, "Nâng cấp"), StatusCode::CREATED),
        ("tk", window(&["dvc-hoi-an"], 60, "Nâng cấp"), StatusCode::FORBIDDEN),
        ("tk", window(&["dvc-tam-ky", "dvc-hoi-an"], 60, "Nâng cấp"), StatusCode::FORBIDDEN),
        ("tk", window(&["dvc-tam-ky"], -30, "đã hỏng rồi mới báo"), StatusCode::FORBIDDEN),
        ("ops", window(&["dvc-hoi-an"], -30, "báo muộn"), StatusCode::CREATED),
        ("ops", window(&["dvc-hoi-an"], 60, " "), StatusCode::BAD_REQUEST),
        ("ops", window(&["khong-co"], 60, "Nâng cấp"), StatusCode::BAD_REQUEST),
        ("ops", window(&[], 60, "Nâng cấp"), StatusCode::BAD_REQUEST),
        (
            "ops",
            json!({"services": ["dvc-hoi-an"], "from": "mai", "to": "mốt", "reason": "x"}),
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (token, body, expected) in rows {
        let (status, _, answer) = ask(&house, by(token, post("/api/ioc/v1/maintenance", &body))).await;
        assert_eq!(status, expected, "{token} {body}: {answer}");
    }
    let list = |token| by(token, request(Method::GET, "/api/ioc/v1/maintenance"));
    let (_, _, own) = ask(&house, list("tk")).await;
    assert!(own.contains("dvc-tam-ky") && !own.contains("dvc-hoi-an") && !own.contains("báo muộn"), "{own}");
    let (_, _, all) = ask(&house, list("ops")).await;
    assert!(all.contains("dvc-hoi-an") && all.contains("\"author\":\"ops\""), "{all}");
    let cancel = |token, id| by(token, request(Method::DELETE, &format!("/api/ioc/v1/maintenance/{id}")));
    for (token, id, expected) in [
        ("tk", 2, StatusCode::FORBIDDEN),
        ("tk", 1, StatusCode::NO_CONTENT),
        ("tk", 1, StatusCode::CONFLICT),
        ("ops", 99, StatusCode::NOT_FOUND),
    ] {
        assert_eq!(ask(&house, cancel(token, id)).await.0, expected, "{token} {id}");
    }
    let (status, _, page) = ask(&house, request(Method::GET, "/maintenance?lang=vi")).await;
    assert!(status.is_success() && page.contains("báo muộn") && page.contains("đã hủy"), "{page}");
}

#[tokio::test]
async fn availability_is_of_what_is_ones_own_and_shows_overrides() {
    let house = house().await;
    let get = |token, path: &str| by(token, request(Method::GET, path));
    let (status, headers, csv) = ask(&house, get("tk", "/api/ioc/v1/availability?format=csv")).await;
    assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &"text/csv; charset=utf-8".parse().unwrap()));
    assert!(csv.contains("tam-ky,service,dvc-tam-ky,") && !csv.contains("hoi-an"), "{csv}");
    for (path, expected) in [
        ("agency=hoi-an", StatusCode::FORBIDDEN),
        ("kind=toaster", StatusCode::BAD_REQUEST),
        ("cause=luck", StatusCode::BAD_REQUEST),
        ("from=2026-01-02&to=2026-01-01", StatusCode::BAD_REQUEST),
        ("from=2020-01-01", StatusCode::BAD_REQUEST),
        ("colour=red", StatusCode::BAD_REQUEST),
    ] {
        let (status, _, answer) = ask(&house, get("tk", &format!("/api/ioc/v1/availability?{path}"))).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    let now = Timestamp::now();
    let judged = json!({"kind": "service", "subject": "dvc-tam-ky", "from": (now - SignedDuration::from_mins(10)).to_string(),
                        "to": now.to_string(), "cause": "national", "reason": "Cổng quốc gia lỗi"});
    let (status, _, answer) = ask(&house, post("/api/ioc/v1/overrides", &judged)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (_, _, text) = ask(&house, get("tk", "/api/ioc/v1/availability?subject=dvc-tam-ky")).await;
    let found: Value = serde_json::from_str(&text).unwrap();
    assert!(found["all"]["down_by_cause"]["national"].as_f64().unwrap() > 300.0, "{text}");
    let (_, _, list) = ask(&house, get("tk", "/api/ioc/v1/overrides")).await;
    assert!(list.contains("Cổng quốc gia lỗi") && list.contains("\"who\":\"local\""), "{list}");
    let withdraw = || request(Method::DELETE, "/api/ioc/v1/overrides/1");
    assert_eq!(ask(&house, withdraw()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&house, withdraw()).await.0, StatusCode::CONFLICT);
}
