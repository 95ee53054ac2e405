//! Behaviours of HTTP servers.

use super::super::{CheckResult, Detail, Phase};
use super::servers::{Act, Authority, answer, page, probe, request_head, script, send, tcp};
use super::{LONG, SHORT, check};
use crate::config::probes::http::HttpProbe;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// HTTP needs no CA file, but compiling reads one: the system's store may be empty where tests run.
struct Plain(Authority);

impl Plain {
    fn new() -> Plain {
        Plain(Authority::new())
    }

    fn probe(&self, address: SocketAddr, path: &str) -> HttpProbe {
        HttpProbe { ca_file: Some(self.0.file()), ..probe(&format!("http://{address}{path}")) }
    }
}

#[tokio::test]
async fn judges_status_and_body() {
    let plain = Plain::new();
    let text = "Cổng Dịch vụ công";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\ndE\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nabc".to_string();
    // (name, answer, body_contains, body_not_contains, result)
    type Judged = (&'static str, String, Option<&'static str>, Option<&'static str>, CheckResult);
    let rows: Vec<Judged> = vec![
        ("ok", page("200 OK", "", text), Some("Dịch vụ"), None, CheckResult::Ok),
        ("no body", "HTTP/1.1 204 No Content\r\n\r\n".into(), None, None, CheckResult::Ok),
        ("wrong status", page("503 Busy", "", text), None, None, CheckResult::Status),
        ("text lacks", page("200 OK", "", "Bảo trì"), Some("Dịch vụ"), None, CheckResult::Content),
        ("text forbidden", page("200 OK", "", "Bảo trì"), None, Some("Bảo trì"), CheckResult::Content),
        ("chunks", chunked.into(), Some("bcdE"), None, CheckResult::Ok),
        ("ends with the connection", until_close, Some("abc"), None, CheckResult::Ok),
        ("chunk size is no number", chunked.replace("3\r\n", "z\r\n"), None, None, CheckResult::Error),
        ("not HTTP", "220 mail.example ESMTP\r\n\r\n".into(), None, None, CheckResult::Error),
        ("closed early", String::new(), None, None, CheckResult::Error),
        ("head cut", "HTTP/1.1 200 OK\r\nConte".into(), None, None, CheckResult::Error),
        ("body cut", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".into(), None, None, CheckResult::Error),
        (
            "length is no number",
            "HTTP/1.1 200 OK\r\nContent-Length: -9\r\n\r\nabc".into(),
            None,
            None,
            CheckResult::Error,
        ),
    ];
    for (name, bytes, contains, not_contains, result) in rows {
        let address = answer(None, bytes).await;
        let outcome = check(
            &HttpProbe {
                body_contains: contains.map(Into::into),
                body_not_contains: not_contains.map(Into::into),
                ..plain.probe(address, "/")
            },
            LONG,
        )
        .await;
        assert_eq!(outcome.result, result, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn phases_of_a_plain_check_have_no_tls_and_add_up() {
    let plain = Plain::new();
    let pause = Duration::from_millis(60);
    let acts = vec![Act::Wait(pause), send("HTTP/1.1 200 OK\r\n\r\n"), Act::Wait(pause), send("x")];
    let outcome = check(&plain.probe(script(None, acts).await, "/"), LONG).await;
    let get = |phase| outcome.phases.get(phase).unwrap_or_default();
    assert_eq!(outcome.phases.get(Phase::Tls), None);
    assert!(get(Phase::Processing) >= pause && get(Phase::Transfer) >= pause, "{outcome:?}");
    let sum: Duration = Phase::ALL[..5].iter().map(|phase| get(*phase)).sum();
    assert!(sum <= get(Phase::Total) && get(Phase::Total) - sum < Duration::from_millis(500), "{outcome:?}");
}

#[tokio::test]
async fn silence_is_a_hang_and_dripping_is_a_timeout() {
    let plain = Plain::new();
    let drip = Duration::from_millis(20);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc";
    // (name, acts, result, phase)
    let rows = vec![
        ("silent before the answer", vec![Act::Hang], CheckResult::Hang, Phase::Processing),
        ("silent in the head", vec![send("HTTP/1.1 200 OK\r\nSer"), Act::Hang], CheckResult::Hang, Phase::Transfer),
        ("silent in the body", vec![send(head), Act::Hang], CheckResult::Hang, Phase::Transfer),
        ("drips its body", vec![send(head), Act::Drip(b"x", drip)], CheckResult::Timeout, Phase::Transfer),
        (
            "drips its head",
            vec![send("HTTP/1.1 200 OK\r\nX: "), Act::Drip(b"x", drip)],
            CheckResult::Timeout,
            Phase::Transfer,
        ),
    ];
    for (name, acts, result, phase) in rows {
        let outcome = check(&plain.probe(script(None, acts).await, "/"), SHORT).await;
        assert_eq!(outcome.result, result, "{name}: {outcome:?}");
        let said = match result {
            CheckResult::Hang => Detail::Silent { phase, limit: SHORT },
            _ => Detail::Unfinished { phase, limit: SHORT },
        };
        assert_eq!(outcome.detail, said, "{name}");
        assert!(outcome.phases.get(Phase::Total).unwrap() < SHORT * 4, "{name}");
    }
}

#[tokio::test]
async fn a_late_answer_is_slow_and_up() {
    let plain = Plain::new();
    let acts = vec![Act::Wait(Duration::from_millis(50)), send(&page("200 OK", "", "x"))];
    let slow = HttpProbe { slow_after: Some(Duration::from_millis(40)), ..plain.probe(script(None, acts).await, "/") };
    let outcome = check(&slow, LONG).await;
    assert_eq!(outcome.result, CheckResult::Slow);
    assert!(outcome.result.is_up());
}

#[tokio::test]
async fn refused_reset_and_unknown_names_are_told_apart() {
    let plain = Plain::new();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(check(&plain.probe(closed, "/"), LONG).await.result, CheckResult::Refused);

    let reset = tcp(|stream| async move {
        // Unread bytes in the buffer make the kernel send RST.
        stream.readable().await.unwrap();
        drop(stream);
    })
    .await;
    let outcome = check(&plain.probe(reset, "/"), LONG).await;
    assert_eq!(outcome.result, CheckResult::Error, "{outcome:?}");

    // A label longer than DNS allows fails without asking any server.
    let unknown = format!("http://{}.invalid/", "a".repeat(70));
    let outcome = check(&HttpProbe { ca_file: Some(plain.0.file()), ..probe(&unknown) }, LONG).await;
    assert_eq!(outcome.result, CheckResult::Dns, "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_a_timeout() {
    let plain = Plain::new();
    // A listener whose queue is full drops further SYNs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        queue.push(tokio::time::timeout(Duration::from_millis(50), connecting).await);
    }
    let outcome = check(&plain.probe(address, "/"), SHORT).await;
    assert_eq!(outcome.result, CheckResult::Timeout, "{outcome:?}");
    assert_eq!(outcome.detail, Detail::Unfinished { phase: Phase::Connect, limit: SHORT });
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_its_bound() {
    let plain = Plain::new();
    let endless = tcp(|mut stream| async move {
        request_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let bounded = HttpProbe { max_body: 10_000, ..plain.probe(endless, "/") };
    assert_eq!(check(&bounded, LONG).await.result, CheckResult::Ok);
    let outcome = check(&HttpProbe { body_contains: Some("y".into()), ..bounded }, LONG).await;
    assert_eq!(outcome.detail, Detail::Missing { text: "y".into(), searched: 10_000 });
}

#[tokio::test]
async fn follows_redirects_up_to_a_bound() {
    let plain = Plain::new();
    let visits = Arc::new(AtomicU32::new(0));
    let seen = visits.clone();
    let address = tcp(move |mut stream| {
        let seen = seen.clone();
        async move {
            let head = request_head(&mut stream).await;
            seen.fetch_add(1, Ordering::SeqCst);
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            let bytes = match path.as_str() {
                "/a/start" => page("302 Found", "Location: ../b?x=1\r\n", ""),
                "/b?x=1" => page("307 Again", "Location: /end\r\n", "moved"),
                "/end" => page("200 OK", "", "end"),
                "/loop" => page("301 Moved", "Location: /loop\r\n", ""),
                "/ftp" => page("301 Moved", "Location: ftp://x.example/\r\n", ""),
                _ => page("301 Moved", "", ""),
            };
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    })
    .await;
    let start = HttpProbe { body_contains: Some("end".into()), ..plain.probe(address, "/a/start") };
    let outcome = check(&start, LONG).await;
    assert_eq!((outcome.result, outcome.redirects, outcome.status), (CheckResult::Ok, 2, Some(200)), "{outcome:?}");
    visits.store(0, Ordering::SeqCst);
    let outcome = check(&plain.probe(address, "/loop"), LONG).await;
    assert_eq!((outcome.result, outcome.detail), (CheckResult::Status, Detail::TooManyRedirects { limit: 5 }));
    assert_eq!(visits.load(Ordering::SeqCst), 6);
    for path in ["/ftp", "/nowhere"] {
        let outcome = check(&plain.probe(address, path), LONG).await;
        assert_eq!(
            (outcome.result, outcome.detail),
            (CheckResult::Status, Detail::BadRedirect { code: 301 }),
            "{path}"
        );
    }
    let stay = HttpProbe { max_redirects: 0, ..plain.probe(address, "/loop") };
    assert_eq!(check(&stay, LONG).await.detail, Detail::Status { code: 301 });
    let expected = HttpProbe { status: vec![301], ..plain.probe(address, "/loop") };
    assert_eq!(check(&expected, LONG).await.result, CheckResult::Ok);
}

/// Remembers the heads of requests.
async fn listening(bytes: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let address = tcp(move |mut stream| {
        let (seen, bytes) = (seen.clone(), bytes.clone());
        async move {
            let head = request_head(&mut stream).await;
            seen.lock().unwrap().push(head.to_lowercase());
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    })
    .await;
    (address, heads)
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let plain = Plain::new();
    let (target, second) = listening(page("200 OK", "", "")).await;
    let (source, first) = listening(page("302 Found", &format!("Location: http://{target}/\r\n"), "")).await;
    let probe = HttpProbe {
        method: "POST".into(),
        headers: vec![
            ("Authorization".into(), "Bearer x".into()),
            ("Host".into(), "dvc.example".into()),
            ("X-Probe".into(), "1".into()),
        ],
        ..plain.probe(source, "/")
    };
    assert_eq!(check(&probe, LONG).await.result, CheckResult::Ok);
    let (first, second) = (first.lock().unwrap().concat(), second.lock().unwrap().concat());
    for part in ["post / http/1.1", "authorization: bearer x", "host: dvc.example", "accept-encoding: identity"] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(second.starts_with("get / ") && second.contains("x-probe: 1"), "{second}");
    assert!(second.contains(&format!("host: {target}")) && !second.contains("authorization"), "{second}");
}

#[tokio::test]
async fn head_requests_have_no_body_to_wait_for() {
    let plain = Plain::new();
    let acts = vec![send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), Act::Hang];
    let head = HttpProbe { method: "HEAD".into(), ..plain.probe(script(None, acts).await, "/") };
    assert_eq!(check(&head, LONG).await.result, CheckResult::Ok);
}
