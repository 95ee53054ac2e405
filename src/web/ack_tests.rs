//! Tests of `ack.rs`: from the mail to the page and its button, through the whole router and its guard.

use super::super::door_tests::locked;
use super::super::tests::{CONFIG, House, ask, house_with, request};
use super::*;
use crate::alert::Alert;
use crate::incident::Entry;
use crate::mail::Outbox;
use crate::org::Org;
use axum::body::Body;
use axum::http::{HeaderName, Method, Request};
use base64::Engine;
use jiff::{SignedDuration, Timestamp};

/// A house, its incident that fires, and the mails about it.
struct Fire {
    house: House,
    incidents: Arc<Incidents>,
    id: i64,
}

impl Fire {
    async fn in_house(mut house: House) -> Fire {
        let (config, store) = (house.state.config(), house.state.store().clone());
        let metrics = house.state.metrics().clone();
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
        // Past the wait for others of its group.
        incidents.tick(now + SignedDuration::from_mins(2)).await.unwrap();
        let id = incidents.open().iter().find(|incident| incident.agency == "ioc").unwrap().id;
        let incidents = Arc::new(incidents);
        house.router = crate::web::router(house.state.clone(), routes(house.state.clone(), incidents.clone()));
        Fire { house, incidents, id }
    }

    /// The texts of the mails in the outbox, decoded.
    async fn mails(&self) -> Vec<String> {
        let rows = sqlx::query_scalar::<_, String>("SELECT message FROM outbox_messages ORDER BY id")
            .fetch_all(self.house.state.store().reader())
            .await
            .unwrap();
        rows.iter().map(|mail| decoded(mail)).collect()
    }

    /// The path behind the button of the latest mail.
    async fn link(&self) -> String {
        let mail = self.mails().await.pop().unwrap();
        let links = links(&mail);
        links.into_iter().find(|link| link.starts_with("/ack/")).unwrap_or_else(|| panic!("no link in {mail}"))
    }

    async fn timeline(&self) -> Vec<Entry> {
        self.incidents.timeline(self.id).await.unwrap()
    }

    fn is_held(&self) -> bool {
        self.incidents.open().iter().any(|open| open.id == self.id && open.escalation.is_held(Timestamp::now()))
    }
}

/// Both texts of a mail, without their encodings.
fn decoded(mail: &str) -> String {
    let mut text = String::new();
    for part in mail.split("\r\n--") {
        let Some((head, body)) = part.split_once("\r\n\r\n") else { continue };
        if head.contains("quoted-printable") {
            text.push_str(&body.replace("=\r\n", "").replace("=3D", "="));
        } else if head.contains("base64") {
            let body: String = body.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(&bytes));
        } else {
            text.push_str(body);
        }
    }
    text
}

/// The paths of all links to this site, as a scanner finds them.
fn links(mail: &str) -> Vec<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ')');
    let found = mail.split("http://ioc.example").skip(1);
    found
        .map(|rest| rest.split(ends).next().unwrap_or("").to_owned())
        .map(|path| if path.is_empty() { "/".into() } else { path })
        .collect()
}

fn form(path: &str, body: &str) -> Request<Body> {
    let mut form = request(Method::POST, path);
    form.headers_mut().insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
    *form.body_mut() = Body::from(body.to_owned());
    form
}

#[tokio::test]
async fn a_scanner_that_follows_every_link_acknowledges_nothing() {
    let fire = Fire::in_house(house_with(CONFIG, &[]).await).await;
    let before = fire.timeline().await;
    let mails = fire.mails().await;
    assert!(!mails.is_empty());
    let all: Vec<String> = mails.iter().flat_map(|mail| links(mail)).collect();
    let acks = all.iter().filter(|link| link.starts_with("/ack/")).count();
    assert_eq!(acks, 2 * mails.len(), "a line and a button in each: {all:?}");
    for link in &all {
        for method in [Method::GET, Method::HEAD] {
            let (status, ..) = ask(&fire.house, request(method.clone(), link)).await;
            if link.starts_with("/ack/") {
                assert_eq!(status, StatusCode::OK, "{method} {link}");
            }
        }
        for method in [Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert!(!ask(&fire.house, request(method, link)).await.0.is_success());
        }
    }
    assert_eq!(fire.timeline().await, before);
    assert!(!fire.is_held());
}

#[tokio::test]
async fn the_button_acknowledges_without_a_login_and_the_others_are_told() {
    // With users, too: the link alone is the right.
    let fire = Fire::in_house(locked("").await).await;
    let link = fire.link().await;
    let (status, headers, shown) = ask(&fire.house, request(Method::GET, &link)).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert!(shown.contains("Trực IOC") && shown.contains("value=\"acknowledge\""), "{shown}");
    assert!(shown.replace("&#x2f;", "/").contains(&format!("action=\"{link}\"")), "{shown}");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
    assert_eq!(headers[header::REFERRER_POLICY], "same-origin", "the link is told to no other site");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");

    let n_mails = fire.mails().await.len();
    // As a browser sends it from our page.
    let mut pressed = form(&link, "action=acknowledge");
    pressed.headers_mut().insert(header::ORIGIN, "http://127.0.0.1:9470".parse().unwrap());
    pressed.headers_mut().insert(HeaderName::from_static("sec-fetch-site"), "same-origin".parse().unwrap());
    let (status, headers, _) = ask(&fire.house, pressed).await;
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, link.as_str()));
    assert!(fire.is_held());
    let shown = ask(&fire.house, request(Method::GET, &link)).await.2;
    assert!(shown.contains("đã tiếp nhận: Trực IOC (đến "), "{shown}");
    assert!(fire.timeline().await.iter().any(|entry| entry.event == "acknowledged" && entry.person == "truc"));

    let mails = fire.mails().await;
    assert_eq!(mails.len(), n_mails + 1, "who was told hears of the answer");
    let told = mails.last().unwrap();
    assert!(told.contains("Sự cố đã có người tiếp nhận") && told.contains("Đã tiếp nhận: Trực IOC lúc "), "{told}");
    assert!(!told.contains("/ack/"), "{told}");
    // Pressed again it holds longer, and nobody is written to again.
    assert_eq!(ask(&fire.house, form(&link, "action=acknowledge")).await.0, StatusCode::SEE_OTHER);
    assert_eq!(fire.mails().await.len(), n_mails + 1);

    assert_eq!(ask(&fire.house, form(&link, "action=comment&text=+")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&fire.house, form(&link, "action=comment&text=%C4%91ang+xem")).await.0, StatusCode::SEE_OTHER);
    assert!(ask(&fire.house, request(Method::GET, &link)).await.2.contains("đang xem"));
    // It gives no more than that.
    assert_eq!(ask(&fire.house, form(&link, "action=resolve&text=x")).await.0, StatusCode::BAD_REQUEST);
    assert_ne!(ask(&fire.house, request(Method::GET, "/incidents")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn forged_expired_and_foreign_links_do_nothing() {
    let fire = Fire::in_house(house_with(CONFIG, &[]).await).await;
    let link = fire.link().await;
    let before = fire.timeline().await;
    let token = link.trim_start_matches("/ack/");
    // Another installation's: the same incident and person, another key.
    let other = Fire::in_house(house_with(CONFIG, &[]).await).await;
    let foreign = other.link().await;
    let expired = fire.incidents.link_for("truc", fire.id, Timestamp::now() - SignedDuration::from_hours(7 * 24));
    let left = fire.incidents.link_for("da-nghi", fire.id, Timestamp::now());
    let gone = fire.incidents.link_for("truc", 999_999, Timestamp::now());
    let letter = if token[20..].starts_with('A') { 'B' } else { 'A' };
    let rows = [
        (format!("/ack/{}{letter}{}", &token[..20], &token[21..]), StatusCode::FORBIDDEN),
        (foreign, StatusCode::FORBIDDEN),
        (left, StatusCode::FORBIDDEN),
        (expired, StatusCode::GONE),
        ("/ack/x".into(), StatusCode::FORBIDDEN),
    ];
    for (path, expected) in rows {
        for asked in [request(Method::GET, &path), form(&path, "action=acknowledge")] {
            let (status, _, body) = ask(&fire.house, asked).await;
            let is_refused = status == expected || status == StatusCode::TOO_MANY_REQUESTS;
            assert!(is_refused, "{path}: {status}");
            assert!(!body.contains("value=\"acknowledge\"") && !body.contains("<form class=\"act\""), "{body}");
        }
    }
    assert_eq!(ask(&fire.house, request(Method::GET, &gone)).await.0, StatusCode::GONE);
    assert_eq!(fire.timeline().await, before);
    assert!(!fire.is_held());
    // Whoever guesses has to wait; who holds a good link does not, from the same address.
    let (status, headers, _) = ask(&fire.house, request(Method::GET, "/ack/y")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(headers.contains_key(header::RETRY_AFTER));
    assert_eq!(ask(&fire.house, request(Method::GET, &link)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_page_of_another_site_opens_the_link_but_presses_nothing() {
    let fire = Fire::in_house(locked("").await).await;
    let link = fire.link().await;
    let from = |mut asked: Request<Body>, name: HeaderName, value: &str| {
        asked.headers_mut().insert(name, value.parse().unwrap());
        asked
    };
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    let opened = from(request(Method::GET, &link), fetch_site.clone(), "cross-site");
    assert_eq!(ask(&fire.house, opened).await.0, StatusCode::OK, "as from a mail in a browser");
    for (name, value) in
        [(header::ORIGIN, "https://evil.example"), (header::ORIGIN, "null"), (fetch_site, "cross-site")]
    {
        let pressed = from(form(&link, "action=acknowledge"), name, value);
        assert_eq!(ask(&fire.house, pressed).await.0, StatusCode::FORBIDDEN);
    }
    let elsewhere = from(request(Method::GET, &link), header::HOST, "evil.example");
    assert_eq!(ask(&fire.house, elsewhere).await.0, StatusCode::FORBIDDEN);
    assert!(!fire.is_held());
}
