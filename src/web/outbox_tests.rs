//! Tests of `outbox.rs`: through the whole router and its guard.

use super::super::door_tests::{as_user, with};
use super::super::tests::{CONFIG, House, ask, house_with, request};
use super::*;
use crate::mail::{About, Outgoing};
use axum::body::Body;
use axum::http::{Method, header};

const REPORT: &str = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.vn.example\r\n\r\n\
Final-Recipient: rfc822; p2@tamky.vn.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
Diagnostic-Code: smtp; 550 5.1.1 <p2@tamky.vn.example> unknown\r\n\r\n--b\r\n\
Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <m2@vn.example>\r\n\r\n--b--\r\n";

/// Five mails: 1 and 2 of Tam Kỳ, 3 and 4 of Hội An, 5 of no agency; 2 was sent, 4 given up.
async fn house(text: &str, files: &[(&str, &str)]) -> House {
    let mut house = house_with(text, files).await;
    let outbox = Outbox::open(house.state.store().clone(), house.state.metrics().clone()).await.unwrap();
    let agencies = ["tam-ky", "tam-ky", "hoi-an", "hoi-an", ""];
    let mails: Vec<Outgoing> = (1..).zip(agencies).map(|(number, agency)| mail(number, agency)).collect();
    let now = Timestamp::now();
    let mut tx = house.state.store().begin().await.unwrap();
    outbox.enqueue(&mut tx, &mails, now).await.unwrap();
    tx.commit().await.unwrap();
    outbox.retry(1, now, "450 greylisted").await.unwrap();
    outbox.sent(&[2], now).await.unwrap();
    outbox.give_up(4, now, "550 no such user").await.unwrap();
    house.router = crate::web::router(house.state.clone(), routes(outbox));
    house
}

fn mail(number: u32, agency: &str) -> Outgoing {
    Outgoing {
        thread: format!("t{number}"),
        person: format!("p{number}"),
        sender: "ioc@vn.example".into(),
        recipient: format!("p{number}@tamky.vn.example"),
        message_id: format!("<m{number}@vn.example>"),
        message: "Subject: secret text\r\n\r\nx\r\n".into(),
        about: About { agency: agency.into(), incident: (!agency.is_empty()).then_some(7) },
        brief: None,
    }
}

async fn listed(house: &House, query: &str, user: Option<&str>) -> (Vec<i64>, Value) {
    let asked = request(Method::GET, &format!("/api/ioc/v1/outbox{query}"));
    let asked = if let Some(user) = user { as_user(asked, user) } else { asked };
    let (status, _, body) = ask(house, asked).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    (answer["messages"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect(), answer)
}

#[tokio::test]
async fn what_waits_is_listed_by_page_and_without_addresses() {
    let house = house(CONFIG, &[]).await;
    let (ids, answer) = listed(&house, "", None).await;
    assert_eq!((ids.as_slice(), answer["count"].as_i64()), (&[1, 3, 5][..], Some(3)), "{answer}");
    let first = &answer["messages"][0];
    assert_eq!(first["to"], "p…@tamky.vn.example");
    assert_eq!((first["lastError"].as_str(), first["attempts"].as_i64()), (Some("450 greylisted"), Some(1)));
    assert!(first["nextTryAt"].is_string() && first["sentAt"].is_null(), "{first}");
    assert!(!answer.to_string().contains("p1@") && !answer.to_string().contains("secret"), "{answer}");
    let (ids, answer) = listed(&house, "?limit=2", None).await;
    assert_eq!((ids.as_slice(), answer["next"].as_i64()), (&[1, 3][..], Some(3)));
    let (ids, answer) = listed(&house, "?limit=2&after=3", None).await;
    assert_eq!((ids.as_slice(), answer["next"].as_i64()), (&[5][..], None));
    assert_eq!(listed(&house, "?state=sent", None).await.0, [2]);
    assert_eq!(listed(&house, "?state=failed", None).await.0, [4]);
    for query in ["?state=lost", "?limit=0", "?limit=1001", "?limit=x", "?page=2", "?after=9999999999999999999"] {
        let (status, _, body) = ask(&house, request(Method::GET, &format!("/api/ioc/v1/outbox{query}"))).await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains("\"error\""), "{query}: {status} {body}");
    }
}

#[tokio::test]
async fn a_report_of_a_bounce_is_taken_once_and_nonsense_is_refused() {
    let house = house(CONFIG, &[]).await;
    let send = async |body: Vec<u8>| {
        let mut sent = request(Method::POST, "/api/ioc/v1/bounces");
        sent.headers_mut().insert(header::CONTENT_TYPE, "message/rfc822".parse().unwrap());
        *sent.body_mut() = Body::from(body);
        let (status, _, body) = ask(&house, sent).await;
        (status.as_u16(), body)
    };
    assert_eq!(send(REPORT.into()).await, (200, "{\"undeliverable\":1}".into()));
    assert_eq!(send(REPORT.into()).await, (200, "{\"undeliverable\":0}".into()), "known already");
    let foreign = REPORT.replace("<m2@vn.example>", "<m2@elsewhere.example>");
    assert_eq!(send(foreign.into()).await, (200, "{\"undeliverable\":0}".into()));
    let waiting = REPORT.replace("<m2@", "<m1@");
    assert_eq!(send(waiting.into()).await.1, "{\"undeliverable\":0}", "what was never sent cannot come back");
    assert_eq!(send(b"Subject: hello\r\n\r\nI am away".to_vec()).await.0, 422);
    assert_eq!(send(vec![0xff; 1_000]).await.0, 422);
    assert_eq!(send(vec![b'x'; bounce::LIMIT + 1]).await.0, 413);
    assert_eq!(house.state.metrics().own.emails.with_label_values(&["bounced"]).get(), 1);
    let (ids, answer) = listed(&house, "?state=failed", None).await;
    assert_eq!(
        (ids.as_slice(), answer["messages"][0]["lastError"].as_str()),
        (&[2, 4][..], Some("550 5.1.1 <p…@tamky.vn.example> unknown"))
    );
}

#[tokio::test]
async fn each_sees_the_outbox_of_their_agency_and_a_token_for_bounces_opens_nothing_else() {
    let users = super::super::door_tests::users_file();
    let tokens = "server: {users_file: users.yml, tokens: [{name: mta, token_file: mta, may: [bounces]}]}\n";
    let house = house(&format!("{CONFIG}{tokens}"), &[("users.yml", &users), ("mta", "secret-of-the-mta")]).await;
    assert_eq!(listed(&house, "", Some("operator")).await.0, [1, 3, 5]);
    assert_eq!(listed(&house, "", Some("operator-tk")).await.0, [1]);
    assert_eq!(listed(&house, "?state=failed", Some("operator-tk")).await.0, [] as [i64; 0]);
    let bearer = |request| with(request, header::AUTHORIZATION, "Bearer secret-of-the-mta");
    let mut sent = bearer(request(Method::POST, "/api/ioc/v1/bounces"));
    *sent.body_mut() = Body::from(REPORT);
    assert_eq!(ask(&house, sent).await.0, StatusCode::OK);
    for path in ["/api/ioc/v1/outbox", "/metrics", "/api/ioc/v1/incidents"] {
        assert_eq!(ask(&house, bearer(request(Method::GET, path))).await.0, StatusCode::FORBIDDEN, "{path}");
    }
}
