//! What HTTP checks can besides: JSON, bodies, proxies, IP families, HTTP/2, client certificates.

use super::super::{CheckResult, Detail, Outcome};
use super::servers::{self, Authority, answer, page, probe};
use super::{LONG, check};
use crate::config::Secret;
use crate::config::probes::address::{Address, Family};
use crate::config::probes::http::{HttpProbe, Proxy, Version};
use crate::config::site::Language;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Compiling reads a CA file: the system's store may be empty where tests run.
async fn made(probe: HttpProbe) -> Outcome {
    let authority = Authority::new();
    let ca_file = probe.ca_file.clone().or_else(|| Some(authority.file()));
    check(&HttpProbe { ca_file, ..probe }, LONG).await
}

#[tokio::test]
async fn json_bodies_proxies_families_and_http2() {
    let json = answer(None, page("200 OK", "", r#"{"status":"ok","n":[1,true]}"#)).await;
    let to = |address: std::net::SocketAddr| probe(&format!("http://{address}/"));
    let expecting =
        |pointer: &str, wanted: &str| HttpProbe { json_path: vec![(pointer.into(), wanted.into())], ..to(json) };
    for (probe, expected) in [
        (expecting("/status", "ok"), ""),
        (expecting("/n/0", "1"), ""),
        (expecting("/n/1", "true"), ""),
        (expecting("/status", "down"), "/status is \"ok\", not \"down\""),
        (expecting("/other", "x"), "/other is missing, expected \"x\""),
    ] {
        assert_eq!(made(probe).await.detail.text(Language::En), expected);
    }
    let page = answer(None, page("200 OK", "", "x")).await;
    let not_json = HttpProbe { json_path: vec![(String::new(), "x".into())], ..to(page) };
    assert_eq!(made(not_json).await.detail, Detail::NotJson);
    assert_eq!(made(HttpProbe { ip: Family::V6, ..to(page) }).await.result, CheckResult::Dns);
    assert_eq!(made(HttpProbe { ip: Family::V4, ..to(page) }).await.result, CheckResult::Ok);

    // A tunnel to another host than the one that the connection goes to; the request inside it must be whole.
    let tunnel = servers::tcp(|mut stream| async move {
        let mut said = vec![0; 4096];
        let length = stream.read(&mut said).await.unwrap_or(0);
        let connect = String::from_utf8_lossy(&said[..length]).into_owned();
        if !connect.starts_with("CONNECT portal.example:80 HTTP/1.1\r\n") || !connect.contains("Basic dXNlcjpwdw==") {
            let _ = stream.write_all(b"HTTP/1.1 407 No\r\n\r\n").await;
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
        let length = stream.read(&mut said).await.unwrap_or(0);
        let request = String::from_utf8_lossy(&said[..length]).into_owned();
        let ok = request.starts_with("POST /a HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{\"a\":1}");
        let code = if ok { "200 OK" } else { "400 Bad" };
        let _ = stream.write_all(format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
    })
    .await;
    let through = |password: &str| HttpProbe {
        method: "POST".into(),
        body: Some(("{\"a\":1}".into(), "application/json")),
        proxy: Some(Proxy {
            address: Address::parse(&tunnel.to_string()).unwrap(),
            login: Some(("user".into(), Secret::new(password))),
        }),
        ..probe("http://portal.example/a")
    };
    let outcome = made(through("pw")).await;
    assert_eq!(outcome.result, CheckResult::Ok, "{:?}", outcome.detail);
    let outcome = made(through("wrong")).await;
    assert_eq!(outcome.detail, Detail::Proxy { cause: "status 407".into() });

    let authority = Authority::new();
    let old = answer(Some(authority.server("localhost", 2050)), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let wanted = HttpProbe {
        version: Version::Http2,
        ca_file: Some(authority.file()),
        ..probe(&format!("https://localhost:{}/", old.port()))
    };
    assert_eq!(made(wanted.clone()).await.detail, Detail::NoHttp2);
    let either = HttpProbe { version: Version::Either, ..wanted };
    assert_eq!(made(either).await.result, CheckResult::Ok);
}

#[tokio::test]
async fn http2_and_a_client_certificate() {
    let authority = Authority::new();
    let router = axum::Router::new().route(
        "/",
        axum::routing::get(async |request: axum::extract::Request| {
            format!("{:?} {}", request.version(), request.uri().authority().is_some())
        }),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = axum_server::tls_rustls::RustlsConfig::from_config(authority.http2_for_known_clients("localhost"));
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(async move { server.serve(router.into_make_service()).await });
    let stranger = HttpProbe {
        version: Version::Http2,
        body_contains: Some("HTTP/2.0 true".into()),
        ca_file: Some(authority.file()),
        ..probe(&format!("https://localhost:{port}/"))
    };
    let known = HttpProbe { identity: Some(authority.client()), ..stranger.clone() };
    let outcome = made(known).await;
    assert_eq!(outcome.result, CheckResult::Ok, "{:?}", outcome.detail);
    // With TLS 1.3 the refusal comes only after our side of the handshake.
    assert!(!made(stranger).await.result.is_up());
}
