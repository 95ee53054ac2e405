//! The answers of a daemon in reserve, called in process.

use super::super::tests::{CONFIG, House, ask, house_with, request};
use super::*;
use axum::http::Method;

/// In reserve while `leader` leads.
async fn reserve(text: &str, files: &[(&str, &str)], leader: &str) -> House {
    let house = house_with(text, files).await;
    let (sender, receiver) = watch::channel(leader.to_string());
    // The last value stays readable.
    drop(sender);
    House { router: router(house.state.clone(), receiver), ..house }
}

#[tokio::test]
async fn alerts_and_everything_else_are_sent_to_the_leader() {
    let house = reserve(CONFIG, &[], "may-a:9470").await;
    for (method, path) in [
        (Method::POST, "/api/v2/alerts"),
        (Method::GET, "/api/v2/alerts"),
        (Method::POST, "/api/v2/silences"),
        (Method::GET, "/api/v1/query?query=1"),
        (Method::GET, "/"),
        (Method::GET, "/nothing"),
    ] {
        let (status, headers, body) = ask(&house, request(method.clone(), path)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{method} {path}");
        assert_eq!(headers[header::RETRY_AFTER], RETRY);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let text = "this daemon stands by; may-a:9470 leads: send it there, or here again later";
        let expected = if path.starts_with("/api/v2") { format!("\"{text}\"") } else { format!("{text}\n") };
        assert_eq!(body, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn it_is_healthy_and_not_ready() {
    for (leader, expected) in
        [("may-a:9470", "ioc-watch stands by; may-a:9470 leads.\n"), ("", "ioc-watch stands by; nobody leads yet.\n")]
    {
        let house = reserve(CONFIG, &[], leader).await;
        assert_eq!(ask(&house, request(Method::GET, "/-/healthy")).await.0, StatusCode::OK);
        let (status, _, body) = ask(&house, request(Method::GET, "/-/ready")).await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, expected));
        let (status, _, body) = ask(&house, request(Method::GET, "/metrics")).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("\nioc_watch_leader 0\n"), "{body}");
    }
}

#[tokio::test]
async fn a_person_sees_a_page_in_their_language_that_says_who_leads() {
    let house = reserve(CONFIG, &[], "may-<a>:9470").await;
    for (path, title) in [("/incidents", "Máy này đang dự phòng"), ("/?lang=en", "This daemon stands by")] {
        let mut asked = request(Method::GET, path);
        asked.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        let (status, headers, body) = ask(&house, asked).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
        for expected in [title, "may-&lt;a&gt;:9470", "ioc.example"] {
            assert!(body.contains(expected), "{expected:?} is not in\n{body}");
        }
    }
}

/// Its metrics are as guarded as the leader's.
#[tokio::test]
async fn strangers_do_not_read_its_metrics() {
    let house = reserve(CONFIG, &[], "may-a:9470").await;
    let mut foreign = request(Method::GET, "/metrics");
    foreign.headers_mut().insert(header::HOST, HeaderValue::from_static("evil.example"));
    assert_eq!(ask(&house, foreign).await.0, StatusCode::FORBIDDEN);
}
