//! Tests of `acts.rs`: through the whole router and its guard.

use super::super::tests::{CONFIG, House, ask, house_with, request};
use super::*;
use crate::alert::Alert;
use crate::mail::Outbox;
use crate::org::Org;
use axum::body::Body;
use axum::http::{Method, header};

/// A house with one incident that fires, its number, and the stage.
async fn house_on_fire() -> (House, Arc<Incidents>, i64) {
    let mut house = house_with(CONFIG, &[]).await;
    let (config, store, metrics) = (house.state.config(), house.state.store().clone(), house.state.metrics().clone());
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let now = Timestamp::now();
    let incidents = Incidents::resume(store.clone(), outbox, org, &config, metrics, now).await.unwrap();
    let labels = [("alertname", "A"), ("agency", "ioc"), ("area", "service"), ("severity", "critical")];
    let alert = Alert {
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        annotations: Default::default(),
        starts_at: now,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    };
    incidents.receive(&[alert], now).await.unwrap();
    let id = incidents.open().iter().find(|incident| incident.agency == "ioc").unwrap().id;
    let incidents = Arc::new(incidents);
    house.router = crate::web::router(house.state.clone(), routes(house.state.clone(), incidents.clone()));
    (house, incidents, id)
}

async fn post_form(house: &House, id: i64, body: &str) -> StatusCode {
    let mut form = request(Method::POST, &format!("/incidents/{id}"));
    form.headers_mut().insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
    *form.body_mut() = Body::from(body.to_owned());
    ask(house, form).await.0
}

#[tokio::test]
async fn the_page_shows_how_and_what_was_done_stands_in_the_timeline() {
    let (house, incidents, id) = house_on_fire().await;
    let page = format!("/incidents/{id}?lang=vi");
    let before = ask(&house, request(Method::GET, &page)).await.2;
    assert!(before.contains("value=\"acknowledge\"") && before.contains("Đã xử lý xong"), "{before}");
    assert_eq!(post_form(&house, id, "action=comment&text=+").await, StatusCode::BAD_REQUEST);
    assert_eq!(post_form(&house, id, "action=comment&text=%C4%91ang+xem").await, StatusCode::SEE_OTHER);
    assert_eq!(post_form(&house, id, "action=acknowledge").await, StatusCode::SEE_OTHER);
    assert!(incidents.open().iter().any(|open| open.id == id && open.escalation.is_held(Timestamp::now())));
    let held = ask(&house, request(Method::GET, &page)).await.2;
    assert!(held.contains("đã tiếp nhận: local (đến "), "{held}");
    let listed = ask(&house, request(Method::GET, "/api/ioc/v1/incidents")).await.2;
    assert!(listed.contains("\"acknowledged\":{\"by\":\"local\""), "{listed}");
    assert_eq!(post_form(&house, id, "action=resolve&text=").await, StatusCode::BAD_REQUEST);
    assert_eq!(post_form(&house, id, "action=resolve&text=xong").await, StatusCode::SEE_OTHER);
    assert_eq!(post_form(&house, id, "action=acknowledge").await, StatusCode::CONFLICT);
    assert_eq!(post_form(&house, id, "action=burn").await, StatusCode::NOT_FOUND);
    let after = ask(&house, request(Method::GET, &page)).await.2;
    for word in ["đang xem", "đã tiếp nhận", "xác nhận đã xử lý xong", "xong"] {
        assert!(after.contains(word), "{word} is missing:\n{after}");
    }
    let events: Vec<String> = incidents.timeline(id).await.unwrap().into_iter().map(|entry| entry.event).collect();
    assert!(
        events.iter().any(|event| event == "dismissed") && events.iter().any(|event| event == "resolved"),
        "{events:?}"
    );
}

#[tokio::test]
async fn the_api_answers_and_a_foreign_page_does_nothing() {
    let (house, incidents, id) = house_on_fire().await;
    let post = |action: &str| request(Method::POST, &format!("/api/ioc/v1/incidents/{id}/{action}"));
    let mut foreign = post("acknowledge");
    foreign.headers_mut().insert(header::ORIGIN, "http://evil.example".parse().unwrap());
    assert_eq!(ask(&house, foreign).await.0, StatusCode::FORBIDDEN);
    assert!(incidents.open().iter().all(|open| open.escalation.acks.is_empty()));
    let (status, _, body) = ask(&house, post("acknowledge")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("acknowledgedUntil"), "{body}");
    assert_eq!(ask(&house, post("resolve")).await.0, StatusCode::BAD_REQUEST, "a reason is missing");
    let unknown = request(Method::POST, "/api/ioc/v1/incidents/999/acknowledge");
    assert_eq!(ask(&house, unknown).await.0, StatusCode::NOT_FOUND);
}
