//! Whole rounds against small real servers on 127.0.0.1, on SQLite and PostgreSQL.

use super::*;
use crate::config::feeds::Source;
use crate::feed::testing::{Bench, Notes, NotesGatherer, at};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers each request by a function of its head; remembers the heads.
#[derive(Clone, Default)]
struct Server {
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> (Server, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::default();
        let (heads, answer) = (server.heads.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heads, answer) = (heads.clone(), answer.clone());
                tokio::spawn(async move {
                    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    heads.lock().unwrap().push(head.clone());
                    let _ = stream.write_all(answer(&target, &head).as_bytes()).await;
                });
            }
        });
        (server, port)
    }

    /// Targets asked for since the last call.
    fn asked(&self) -> Vec<String> {
        let heads = std::mem::take(&mut *self.heads.lock().unwrap());
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

fn ok(body: &str, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn http_of(bench: &Bench) -> Http {
    match &bench.config.usage[0].feed_config().unwrap().source {
        Source::Http(http) => (**http).clone(),
        _ => panic!("the configuration has an http feed"),
    }
}

fn feed(bench: &Bench) -> HttpFeed<NotesGatherer> {
    let gatherer = Arc::new(NotesGatherer::default());
    HttpFeed::new(bench.config.usage[0].feed_config().unwrap(), &http_of(bench), gatherer)
}

fn notes(feed: &HttpFeed<NotesGatherer>) -> Notes {
    feed.gatherer.take()
}

fn section(http: &str) -> String {
    format!(
        "usage:\n  - {{app: qoffice, feed: {{http: {{{http}, columns: {{agency: {{const: tam-ky}}, event: id, count: /n}}}}}}}}\n"
    )
}

#[tokio::test]
async fn a_cursor_is_followed_remembered_and_asked_again_until_rows_are_added() {
    let (server, port) = Server::start(|target, head| {
        assert!(head.contains("authorization: Bearer of-a-test"), "{head}");
        match target {
            "/list" => ok(r#"{"data": [{"id": "a", "n": 1}, {"id": "b", "n": "x"}], "next": "c1"}"#, ""),
            _ if head.contains("if-none-match: \"v1\"") => "HTTP/1.1 304 Not Modified\r\n\r\n".into(),
            _ => ok(r#"{"data": [{"id": "c", "n": 3}], "next": null}"#, "etag: \"v1\"\r\n"),
        }
    })
    .await;
    let http = format!("url: 'http://127.0.0.1:{port}/list', items: /data, cursor: /next, bearer_file: token");
    for bench in Bench::both_with(&section(&http), &[("token", "of-a-test\n")]).await {
        let mut feed = feed(&bench);
        let polled = feed.poll(&bench.place, at("2026-11-23T01:00:00Z")).await.unwrap();
        assert_eq!((polled.files, polled.accepted, polled.rejected), (2, 2, 1));
        assert_eq!(server.asked(), ["/list", "/list?cursor=c1"]);
        assert_eq!(notes(&feed), ["a=1", "c=3"]);
        assert!(
            bench.rejected("usage-qoffice").contains("127.0.0.1/list 1,2,count,"),
            "{}",
            bench.rejected("usage-qoffice")
        );

        let polled = feed.poll(&bench.place, at("2026-11-23T01:04:00Z")).await.unwrap();
        assert!(polled.is_idle && server.asked().is_empty(), "not yet due");
        // Another process goes on where the first stopped, and what did not change is not read.
        let mut feed = self::feed(&bench);
        let polled = feed.poll(&bench.place, at("2026-11-23T01:05:00Z")).await.unwrap();
        assert_eq!((server.asked(), polled.accepted), (vec!["/list?cursor=c1".to_owned()], 0));
    }
}

#[tokio::test]
async fn links_and_numbers_are_followed_to_the_end_and_circles_are_an_error() {
    let (server, port) = Server::start(|target, _| match target {
        "/links" => ok(r#"[{"id": "a", "n": 1}]"#, "link: </links?p=2>; rel=\"next\"\r\n"),
        "/links?p=2" => ok(r#"[{"id": "b", "n": 2}]"#, ""),
        "/pages?page=1" => ok(r#"[{"id": "a", "n": 1}]"#, ""),
        "/pages?page=2" => ok(r#"[{"id": "b", "n": 2}]"#, ""),
        "/pages?page=3" => ok("[]", ""),
        "/circle" => ok(r#"{"items": [{"id": "a", "n": 1}], "next": "/circle?p=2"}"#, ""),
        "/circle?p=2" => ok(r#"{"items": [{"id": "b", "n": 1}], "next": "/circle"}"#, ""),
        _ => ok(r#"[{"id": "a", "n": 1}]"#, ""),
    })
    .await;
    for (http, asked) in [
        (format!("url: 'http://127.0.0.1:{port}/links', next: link"), vec!["/links", "/links?p=2"]),
        (
            format!("url: 'http://127.0.0.1:{port}/pages', page: {{param: page}}"),
            vec!["/pages?page=1", "/pages?page=2", "/pages?page=3"],
        ),
    ] {
        for bench in Bench::both(&section(&http)).await {
            let mut feed = feed(&bench);
            let polled = feed.poll(&bench.place, at("2026-11-23T01:00:00Z")).await.unwrap();
            assert_eq!((server.asked(), polled.accepted), (asked.iter().map(ToString::to_string).collect(), 2));
            assert_eq!(notes(&feed), ["a=1", "b=2"]);
            // The next round begins at the end, and changes nothing.
            feed.poll(&bench.place, at("2026-11-23T01:05:00Z")).await.unwrap();
            assert_eq!(server.asked().first(), asked.get(1).map(ToString::to_string).as_ref());
        }
    }
    for http in [
        format!("url: 'http://127.0.0.1:{port}/circle', items: /items, next: /next"),
        // The server does not know the parameter and gives the same page for ever.
        format!("url: 'http://127.0.0.1:{port}/same', page: {{param: seite}}"),
    ] {
        for bench in Bench::both(&section(&http)).await {
            let mut feed = feed(&bench);
            let failed = feed.poll(&bench.place, at("2026-11-23T01:00:00Z")).await;
            assert!(matches!(failed, Err(FeedError::Loop)), "{http}: {failed:?}");
            assert!(server.asked().len() < 5, "{http}");
        }
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_left_alone_for_longer_and_longer_and_as_long_as_it_asks() {
    let (server, port) = Server::start(|target, _| match target {
        "/busy" => "HTTP/1.1 429 Too Many Requests\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n".into(),
        _ => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".into(),
    })
    .await;
    for (path, waits) in [("down", [5, 10, 20]), ("busy", [120, 120, 120])] {
        let bench = Bench::sqlite(&section(&format!("url: 'http://127.0.0.1:{port}/{path}'"))).await;
        let mut feed = feed(&bench);
        let mut now = at("2026-11-23T01:00:00Z");
        for wait in waits {
            assert!(feed.poll(&bench.place, now).await.is_err());
            assert_eq!(server.asked().len(), 1);
            now += SignedDuration::from_secs(wait - 1);
            assert!(feed.poll(&bench.place, now).await.unwrap().is_idle, "{path} {wait}");
            now += SignedDuration::from_secs(1);
        }
    }
}

#[tokio::test]
async fn hostile_answers_are_errors_with_a_reason_and_write_nothing() {
    let (_, port) = Server::start(|target, _| match target {
        "/html" => ok("<html>login</html>", ""),
        "/endless" => {
            let body = format!("[\"{}\"]", "x".repeat(3_000_000));
            ok(&body, "")
        }
        "/redirect" => "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".into(),
        "/object" => ok(r#"{"data": {"id": 1}}"#, ""),
        "/deep" => ok(&"[".repeat(100_000), ""),
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"id\": \"a\", \"n\": 1}".into(),
        _ => ok("[]", ""),
    })
    .await;
    for (path, words) in [
        ("html", "not JSON"),
        ("endless", "longer than 1048576"),
        ("redirect", "status 302"),
        ("object", "no list at"),
        ("deep", "not JSON"),
        ("cut", "talking HTTP"),
    ] {
        let http = format!(
            "url: 'http://127.0.0.1:{port}/{path}', items: '{}', max_body: 1MiB",
            if path == "object" { "/data" } else { "" }
        );
        let bench = Bench::sqlite(&section(&http)).await;
        let mut feed = feed(&bench);
        let error = feed.poll(&bench.place, at("2026-11-23T01:00:00Z")).await.unwrap_err();
        let chain =
            format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(chain.contains(words), "{path}: {chain}");
        assert!(notes(&feed).is_empty());
    }
}

#[tokio::test]
async fn a_rejected_row_that_is_sent_again_is_kept_and_counted_once() {
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let more = count.clone();
    let (_, port) = Server::start(move |_, _| {
        // Each answer is a little longer than the one before.
        let n = more.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let rows: String = (0..=n).map(|n| format!(r#",{{"id": "r{n}", "n": {n}}}"#)).collect();
        ok(&format!(r#"[{{"id": "bad", "n": -1}}{rows}]"#), "")
    })
    .await;
    let bench = Bench::sqlite(&section(&format!("url: 'http://127.0.0.1:{port}/'"))).await;
    let mut feed = feed(&bench);
    let rejected: Vec<u64> = {
        let mut rejected = Vec::new();
        for minute in [0, 5, 10] {
            let now = at("2026-11-23T01:00:00Z") + SignedDuration::from_mins(minute);
            rejected.push(feed.poll(&bench.place, now).await.unwrap().rejected);
        }
        rejected
    };
    assert_eq!(rejected, [1, 0, 0]);
    assert_eq!(bench.rejected("usage-qoffice").matches("bad").count(), 1);
}
