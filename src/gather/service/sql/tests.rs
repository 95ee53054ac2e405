//! Checks against servers that do what no sound database does, or what the databases at hand cannot.

use super::super::outcome::{CheckResult, Outcome};
use super::super::{Check, Trust};
use crate::config::Secret;
use crate::config::probes::Probe;
use crate::config::probes::sql::{Engine, SqlProbe, SslMode};
use crate::config::site::Language;
use ring::digest::{SHA256, digest};
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Host;

/// For checks that end by themselves, however busy the machine.
const LONG: Duration = Duration::from_secs(20);
/// For checks that only the deadline ends.
const SHORT: Duration = Duration::from_millis(500);

/// A server on loopback that treats every connection so.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

async fn check(engine: Engine, sslmode: SslMode, port: u16, timeout: Duration) -> (Outcome, String) {
    crate::install_tls_provider();
    let probe = SqlProbe {
        engine,
        host: Host::Domain("localhost".into()),
        port,
        user: "probe".into(),
        password: Some(Secret::new("hunter2")),
        database: None,
        query: "select 1".into(),
        min: None,
        max: None,
        newest: None,
        sslmode,
        ca_file: None,
        slow_after: None,
    };
    let check = Check::compile(&Probe::Sql(probe), &Trust::default()).await.unwrap();
    let outcome = check.run(timeout).await;
    let said = outcome.detail.text(Language::En);
    assert!(!said.contains("hunter2"));
    (outcome, said)
}

/// Reads the startup of PostgreSQL's client, whatever it says.
async fn startup(stream: &mut TcpStream) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut rest = vec![0; usize::try_from(length).unwrap_or(4) - 4];
    stream.read_exact(&mut rest).await.map(|_| ())
}

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    super::mysql_login::packet(sequence, body)
}

/// A greeting of MySQL 8 with 20 times `s` as its scramble.
fn greeting(method: &str) -> Vec<u8> {
    let mut body = vec![10];
    body.extend(b"8.0.36\0\x01\0\0\0ssssssss\0\xff\xf7\xff\x02\0\xff\xdf\x15");
    body.extend([0; 10]);
    body.extend(b"ssssssssssss\0");
    body.extend(method.as_bytes());
    body.push(0);
    packet(0, &body)
}

async fn read_packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

#[tokio::test]
async fn silence_is_a_hang_and_dripping_is_a_timeout() {
    let silent = server(|stream| async move {
        let _kept = stream;
        std::future::pending().await
    })
    .await;
    for (engine, sslmode) in
        [(Engine::Postgres, SslMode::Disable), (Engine::Postgres, SslMode::Prefer), (Engine::Mysql, SslMode::Prefer)]
    {
        let (outcome, said) = check(engine, sslmode, silent, SHORT).await;
        assert_eq!(outcome.result, CheckResult::Hang, "{engine:?} {said}");
    }
    // A notice without end, byte by byte.
    let dripping = server(|mut stream| async move {
        startup(&mut stream).await?;
        stream.write_all(b"N\0\x02\0\0").await?;
        loop {
            stream.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (outcome, said) = check(Engine::Postgres, SslMode::Disable, dripping, SHORT).await;
    assert_eq!(outcome.result, CheckResult::Timeout, "{said}");
}

#[tokio::test]
async fn another_protocol_is_named_and_not_waited_for() {
    let web = server(|mut stream| async move {
        // A web server answers what it cannot read.
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(|_| ())
    })
    .await;
    for engine in [Engine::Postgres, Engine::Mysql] {
        for sslmode in [SslMode::Disable, SslMode::Prefer] {
            let begin = Instant::now();
            let (outcome, said) = check(engine, sslmode, web, LONG).await;
            assert_eq!(outcome.result, CheckResult::Error, "{said}");
            assert!(said.starts_with("the answer is not that of a"), "{said}");
            assert!(begin.elapsed() < LONG / 2);
        }
    }
    let closing = server(|stream| async move {
        drop(stream);
        Ok(())
    })
    .await;
    for engine in [Engine::Postgres, Engine::Mysql] {
        let (outcome, said) = check(engine, SslMode::Disable, closing, LONG).await;
        assert_eq!(outcome.result, CheckResult::Error, "{said}");
        assert!(said.contains("connection"), "{said}");
    }
}

#[tokio::test]
async fn answers_are_read_up_to_a_bound() {
    // One message that announces 1 GiB less a little, then notices without end.
    let announced = server(|mut stream| async move {
        startup(&mut stream).await?;
        stream.write_all(b"N\x3f\xff\xff\xff").await?;
        std::future::pending().await
    })
    .await;
    let endless = server(|mut stream| async move {
        startup(&mut stream).await?;
        loop {
            stream.write_all(&[b"N\0\0\x40\x04".as_slice(), &[0; 0x4000]].concat()).await?;
        }
    })
    .await;
    let columns = server(|mut stream| async move {
        stream.write_all(&greeting("mysql_native_password")).await?;
        read_packet(&mut stream).await?;
        stream.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).await?;
        read_packet(&mut stream).await?;
        // 2^63 columns.
        stream.write_all(&packet(1, &[0xfe, 0, 0, 0, 0, 0, 0, 0, 0x80])).await?;
        std::future::pending().await
    })
    .await;
    for (engine, port, words) in [
        (Engine::Postgres, announced, "longer than 262144 bytes"),
        (Engine::Postgres, endless, "longer than 1048576 bytes"),
        (Engine::Mysql, columns, "not that of a MySQL"),
    ] {
        let (outcome, said) = check(engine, SslMode::Disable, port, LONG).await;
        assert_eq!(outcome.result, CheckResult::Error, "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn tls_that_is_asked_for_and_not_there_is_a_failure_of_tls() {
    let postgres = server(|mut stream| async move {
        startup(&mut stream).await?;
        stream.write_all(b"N").await?;
        std::future::pending().await
    })
    .await;
    let mysql = server(|mut stream| async move {
        let mut greeting = greeting("mysql_native_password");
        // The bit that says TLS, in the low half of the capabilities.
        let at = 4 + 1 + 7 + 4 + 8 + 1 + 1;
        greeting[at] &= !0x08;
        stream.write_all(&greeting).await?;
        std::future::pending().await
    })
    .await;
    for (engine, port) in [(Engine::Postgres, postgres), (Engine::Mysql, mysql)] {
        let (outcome, said) = check(engine, SslMode::Require, port, LONG).await;
        assert_eq!(
            (outcome.result, said.as_str()),
            (CheckResult::Tls, "the server offers no TLS, which sslmode asks for")
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_not_believed() {
    let impostor = server(|mut stream| async move {
        startup(&mut stream).await?;
        stream.write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0").await?;
        let mut answer = [0; 64];
        let _ = stream.read(&mut answer).await?;
        // "Welcome", without proof.
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
        std::future::pending().await
    })
    .await;
    let (outcome, said) = check(Engine::Postgres, SslMode::Disable, impostor, LONG).await;
    assert_eq!(outcome.result, CheckResult::Error);
    assert!(said.contains("could not prove"), "{said}");
    let curious = server(|mut stream| async move {
        stream.write_all(&greeting("mysql_native_password")).await?;
        read_packet(&mut stream).await?;
        // "Now the password in clear text, please."
        stream.write_all(&packet(2, b"\xfemysql_clear_password\0")).await?;
        let said = read_packet(&mut stream).await?;
        assert!(said.is_empty(), "the password was said: {said:?}");
        Ok(())
    })
    .await;
    let (outcome, said) = check(Engine::Mysql, SslMode::Disable, curious, LONG).await;
    assert_eq!(outcome.result, CheckResult::Error);
    assert!(said.contains("in clear text"), "{said}");
}

/// What MySQL 8 does and MariaDB does not.
#[tokio::test]
async fn the_caching_login_of_mysql_is_known() {
    fn proof() -> Vec<u8> {
        let once = digest(&SHA256, b"hunter2");
        let twice = digest(&SHA256, once.as_ref());
        let mask = digest(&SHA256, &[twice.as_ref(), b"ssssssssssssssssssss"].concat());
        once.as_ref().iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect()
    }
    /// Lets in whoever knows the password, by `more` (3: known, 4: the password itself, please).
    async fn serve(mut stream: TcpStream, more: u8) -> std::io::Result<()> {
        let ok: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
        stream.write_all(&greeting("caching_sha2_password")).await?;
        let login = read_packet(&mut stream).await?;
        let proof = proof();
        let knows = login.windows(proof.len()).any(|part| part == proof);
        let verdict = if knows { vec![1, more] } else { b"\xff\x15\x04#28000Access denied".to_vec() };
        stream.write_all(&packet(2, &verdict)).await?;
        if more == 3 {
            stream.write_all(&packet(3, ok)).await?;
        }
        loop {
            let command = read_packet(&mut stream).await?;
            if command == b"\x03select 1" {
                for (sequence, body) in [
                    (1, b"\x01".as_slice()),
                    (2, b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0"),
                    (3, b"\xfe\0\0\x02\0"),
                    (4, b"\x011"),
                    (5, b"\xfe\0\0\x02\0"),
                ] {
                    stream.write_all(&packet(sequence, body)).await?;
                }
            } else {
                stream.write_all(&packet(1, ok)).await?;
            }
        }
    }
    let known = server(|stream| serve(stream, 3)).await;
    let (outcome, said) = check(Engine::Mysql, SslMode::Disable, known, LONG).await;
    assert_eq!((outcome.result, outcome.value), (CheckResult::Ok, Some(1.0)), "{said}");
    let forgotten = server(|stream| serve(stream, 4)).await;
    let (outcome, said) = check(Engine::Mysql, SslMode::Disable, forgotten, LONG).await;
    assert_eq!(outcome.result, CheckResult::Error);
    assert!(said.contains("in clear text"), "{said}");
}

#[tokio::test]
async fn a_server_may_refuse_before_the_login_and_does_not_get_our_files() {
    let blocked = server(|mut stream| async move {
        stream.write_all(&packet(0, b"\xff\x69\x04Host '192.0.2.1' is blocked")).await?;
        std::future::pending().await
    })
    .await;
    let (outcome, said) = check(Engine::Mysql, SslMode::Prefer, blocked, LONG).await;
    assert_eq!(outcome.result, CheckResult::Error);
    assert_eq!(said, "the login was refused: Host '192.0.2.1' is blocked (1129)");
    let thief = server(|mut stream| async move {
        stream.write_all(&greeting("mysql_native_password")).await?;
        read_packet(&mut stream).await?;
        stream.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).await?;
        read_packet(&mut stream).await?;
        stream.write_all(&packet(1, b"\xfb/etc/passwd")).await?;
        assert!(read_packet(&mut stream).await.is_err(), "nothing is sent");
        Ok(())
    })
    .await;
    let (outcome, said) = check(Engine::Mysql, SslMode::Disable, thief, LONG).await;
    assert_eq!(outcome.result, CheckResult::Error);
    assert!(said.contains("not that of a MySQL"), "{said}");
}
