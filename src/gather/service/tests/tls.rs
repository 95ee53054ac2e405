//! Behaviours of TLS servers, and what the certificates tell.

use super::super::{CheckResult, Detail, Phase};
use super::servers::{Act, Authority, answer, page, probe, script, send, tcp};
use super::{LONG, SHORT, check};
use crate::config::probes::http::HttpProbe;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn trusting(authority: &Authority, url: String) -> HttpProbe {
    HttpProbe { ca_file: Some(authority.file()), ..probe(&url) }
}

fn ok() -> String {
    page("200 OK", "", "ok")
}

fn at(address: SocketAddr) -> String {
    format!("https://{address}/")
}

#[tokio::test]
async fn a_good_server_is_ok_and_tells_when_its_certificates_expire() {
    let authority = Authority::new();
    let address = answer(Some(authority.server("localhost", 2050)), ok()).await;
    let outcome = check(&trusting(&authority, format!("https://localhost:{}/", address.port())), LONG).await;
    assert_eq!(outcome.result, CheckResult::Ok, "{outcome:?}");
    let expiry = outcome.expiry.unwrap();
    assert_eq!(expiry.leaf.to_string(), "2050-01-01T00:00:00Z");
    assert_eq!(expiry.chain.to_string(), "2045-06-07T00:00:00Z");
    for phase in Phase::ALL {
        assert!(outcome.phases.get(phase).is_some_and(|length| !length.is_zero()), "{phase:?} of {outcome:?}");
    }
}

#[tokio::test]
async fn bad_certificates_are_told_apart_and_still_read() {
    let authority = Authority::new();
    let expired = answer(Some(authority.server("127.0.0.1", 2021)), ok()).await;
    let outcome = check(&trusting(&authority, at(expired)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Tls);
    assert_eq!(outcome.detail, Detail::Expired { at: "2021-01-01T00:00:00Z".parse().unwrap() });
    assert_eq!(outcome.expiry.unwrap().leaf.to_string(), "2021-01-01T00:00:00Z");

    let other = answer(Some(authority.server("khac.example", 2040)), ok()).await;
    let outcome = check(&trusting(&authority, at(other)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Tls);
    let wrong = Detail::WrongName { expected: "127.0.0.1".into(), presented: vec!["khac.example".into()] };
    assert_eq!(outcome.detail, wrong);

    let unknown = answer(Some(Authority::new().server("127.0.0.1", 2040)), ok()).await;
    let outcome = check(&trusting(&authority, at(unknown)), LONG).await;
    assert_eq!((outcome.result, outcome.detail.clone()), (CheckResult::Tls, Detail::Untrusted), "{outcome:?}");
    assert!(outcome.expiry.is_some());
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_only_if_its_certificate_is_the_ca_file() {
    let authority = Authority::new();
    let (acceptor, pem) = Authority::self_signed("127.0.0.1");
    let address = answer(Some(acceptor), ok()).await;
    let outcome = check(&trusting(&authority, at(address)), LONG).await;
    assert_eq!((outcome.result, outcome.detail), (CheckResult::Tls, Detail::Untrusted));
    std::fs::write(authority.file(), pem).unwrap();
    let outcome = check(&trusting(&authority, at(address)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Ok, "{outcome:?}");
    let (acceptor, pem) = Authority::self_signed("khac.example");
    let other = answer(Some(acceptor), ok()).await;
    std::fs::write(authority.file(), pem).unwrap();
    let outcome = check(&trusting(&authority, at(other)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Tls, "its name still counts: {outcome:?}");
}

#[tokio::test]
async fn silence_is_a_hang_at_every_point_of_a_tls_check() {
    let authority = Authority::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc";
    let silent = tcp(|stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let before = script(Some(authority.server("127.0.0.1", 2040)), vec![Act::Hang]).await;
    let within = script(Some(authority.server("127.0.0.1", 2040)), vec![send(head), Act::Hang]).await;
    for (address, phase) in [(silent, Phase::Tls), (before, Phase::Processing), (within, Phase::Transfer)] {
        let outcome = check(&trusting(&authority, at(address)), SHORT).await;
        assert_eq!(outcome.result, CheckResult::Hang, "{outcome:?}");
        assert_eq!(outcome.detail, Detail::Silent { phase, limit: SHORT });
        assert_eq!(outcome.expiry.is_some(), phase != Phase::Tls);
    }
}

#[tokio::test]
async fn a_dripping_handshake_is_a_timeout() {
    let authority = Authority::new();
    let address = tcp(|mut stream| async move {
        // The head of a handshake record of 16,000 bytes that never come.
        let _ = stream.write_all(&[22, 3, 3, 0x3e, 0x80]).await;
        while stream.write_all(&[2]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let outcome = check(&trusting(&authority, at(address)), SHORT).await;
    assert_eq!(outcome.result, CheckResult::Timeout, "{outcome:?}");
}

#[tokio::test]
async fn a_failed_handshake_is_tls() {
    let authority = Authority::new();
    let http = answer(None, page("400 Bad Request", "", "")).await;
    let greeting = tcp(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.shutdown().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    })
    .await;
    let closing = tcp(|stream| async move { drop(stream) }).await;
    let outcome = check(&trusting(&authority, at(greeting)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Tls, "{outcome:?}");
    let outcome = check(&trusting(&authority, at(closing)), LONG).await;
    assert_eq!(outcome.result, CheckResult::Tls, "{outcome:?}");
    // The plain server waits for the end of a request that never comes.
    assert_eq!(check(&trusting(&authority, at(http)), SHORT).await.result, CheckResult::Hang);
}

#[tokio::test]
async fn the_scheme_may_change_on_the_way() {
    let authority = Authority::new();
    let secure = answer(Some(authority.server("127.0.0.1", 2040)), ok()).await;
    let plain = answer(None, page("301 Moved", &format!("Location: https://{secure}/\r\n"), "")).await;
    let outcome = check(&trusting(&authority, format!("http://{plain}/")), LONG).await;
    assert_eq!((outcome.result, outcome.redirects), (CheckResult::Ok, 1), "{outcome:?}");
    assert!(outcome.expiry.is_some() && outcome.phases.get(Phase::Tls).is_some());
}
