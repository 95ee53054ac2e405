//! TCP dialogues and bare TLS handshakes.

use super::servers::{self, Authority};
use super::{LONG, SHORT};
use crate::config::Secret;
use crate::config::probes::Probe;
use crate::config::probes::address::Address;
use crate::config::probes::tcp::{Expect, TcpProbe, Turn};
use crate::config::probes::tls::{Least, TlsProbe};
use crate::config::site::Language;
use crate::gather::service::{Check, CheckResult, Detail, Outcome, Phase, Trust};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn to(address: SocketAddr) -> Address {
    Address::parse(&address.to_string()).unwrap()
}

fn expect(text: &str) -> Turn {
    Turn::Expect(Expect::Text(text.into()))
}

async fn talk(address: SocketAddr, dialogue: Vec<Turn>, timeout: Duration) -> Outcome {
    let probe = Probe::Tcp(TcpProbe { dialogue, ..TcpProbe::to(to(address)) });
    Check::compile(&probe, &Trust::default()).await.unwrap().run(timeout).await
}

/// Says `banner`, answers each line with `answer`.
async fn speaker(banner: &'static str, answer: &'static str) -> SocketAddr {
    servers::tcp(move |mut stream| async move {
        let _ = stream.write_all(banner.as_bytes()).await;
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
            if byte == *b"\n" {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_dialogue_goes_turn_by_turn() {
    let server = speaker("220 mail\r\n", "250 ok\r\n").await;
    let quit = || Turn::Send(Secret::new("QUIT\r\n"));
    for (name, dialogue, timeout, result) in [
        ("the connection is enough", vec![], LONG, CheckResult::Ok),
        ("banner", vec![expect("220")], LONG, CheckResult::Ok),
        ("banner, command, answer", vec![expect("220"), quit(), expect("250")], LONG, CheckResult::Ok),
        ("what was expected once does not count twice", vec![expect("220"), expect("220")], SHORT, CheckResult::Hang),
        ("another banner", vec![expect("SSH-2.0")], SHORT, CheckResult::Content),
    ] {
        let outcome = talk(server, dialogue, timeout).await;
        assert_eq!(outcome.result, result, "{name}: {outcome:?}");
    }
    let outcome = talk(server, vec![expect("SSH-2.0")], SHORT).await;
    assert_eq!(outcome.detail.text(Language::En), "said \"220 mail\", not \"SSH-2.0\"");
    assert!(outcome.phases.get(Phase::Connect).is_some());
}

#[tokio::test]
async fn silence_refusal_and_closing_are_told_apart() {
    let silent = servers::tcp(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    });
    let closing = servers::tcp(|mut stream| async move {
        let _ = stream.shutdown().await;
    });
    let endless = servers::tcp(|mut stream| async move { while stream.write_all(&[b'x'; 1000]).await.is_ok() {} });
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (name, address, timeout, result) in [
        ("silent", silent.await, SHORT, CheckResult::Hang),
        ("closing", closing.await, LONG, CheckResult::Error),
        ("endless", endless.await, LONG, CheckResult::Content),
        ("refusing", refusing, LONG, CheckResult::Refused),
    ] {
        let outcome = talk(address, vec![expect("220")], timeout).await;
        assert_eq!(outcome.result, result, "{name}: {outcome:?}");
    }
    let probe = Probe::Tcp(TcpProbe::to(Address::parse("nobody.invalid:1").unwrap()));
    let outcome = Check::compile(&probe, &Trust::default()).await.unwrap().run(LONG).await;
    assert_eq!(outcome.result, CheckResult::Dns);
}

#[tokio::test]
async fn a_bare_handshake_judges_name_issuer_and_version() {
    let authority = Authority::new();
    let server = servers::answer(Some(authority.server("localhost", 2050)), "").await;
    let address = Address::parse(&format!("localhost:{}", server.port())).unwrap();
    let good = TlsProbe { ca_file: Some(authority.file()), ..TlsProbe::to(address) };
    let named = |name: &str| Some(rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap());
    let other = Authority::new();
    for (name, probe, result) in [
        ("good", good.clone(), CheckResult::Ok),
        ("TLS 1.3", TlsProbe { min_version: Least::Tls13, ..good.clone() }, CheckResult::Ok),
        ("wrong name", TlsProbe { server_name: named("portal.example"), ..good.clone() }, CheckResult::Tls),
        ("unknown issuer", TlsProbe { ca_file: Some(other.file()), ..good.clone() }, CheckResult::Tls),
    ] {
        let outcome = Check::compile(&Probe::Tls(probe), &Trust::default()).await.unwrap().run(LONG).await;
        assert_eq!(outcome.result, result, "{name}: {outcome:?}");
        assert!(outcome.expiry.is_some(), "{name}");
        match name {
            "wrong name" => assert!(matches!(outcome.detail, Detail::WrongName { .. })),
            "unknown issuer" => assert_eq!(outcome.detail, Detail::Untrusted),
            _ => assert!(outcome.phases.get(Phase::Tls).is_some()),
        }
    }
}
