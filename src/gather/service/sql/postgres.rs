//! PostgreSQL's protocol 3.0, as much of it as a probe needs: TLS, login, a read-only transaction, one row of a query.
//!
//! The query goes through Parse and Execute: so it is one statement whatever it says, and the server stops after the
//! first row. Nothing is set for longer than the transaction, so that a pooler in between hands on a clean connection.

use super::super::detail::Failure;
use super::super::outcome::{CheckResult, Phase};
use super::super::watch::Watched;
use super::answer::{Answers, Cell, Kind, Row};
use super::encrypt::encrypt;
use super::scram::{self, Scram};
use super::session::{Cursor, Duplex, Session, Talk, broken, fail};
use super::trouble::{Stage, Trouble, shown};
use super::{Settings, SqlCheck};
use crate::config::Secret;
use crate::config::probes::sql::{SqlProbe, SslMode};
use jiff::tz::Offset;
use md5::{Digest, Md5};
use std::fmt::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ENGINE: &str = "PostgreSQL";
const PROTOCOL: i32 = 3 << 16;
const SSL_REQUEST: i32 = 80_877_103;
const OID_BOOL: i32 = 16;
/// SQLSTATE of a statement that was given up.
const CANCELED: &str = "57014";

/// Logs in and asks.
pub(super) async fn ask(
    check: &SqlCheck,
    stream: Watched<TcpStream>,
    talk: &mut Talk,
    settings: Settings,
) -> Result<Answers, Failure> {
    let (stream, encrypted) = secure(check, stream, talk).await?;
    let mut session = Session::new(stream, talk);
    log_in(check, &mut session, settings, encrypted).await?;
    session.begin(Stage::Query);
    let timeout = settings.statement_timeout.as_millis();
    let begin = format!("BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = {timeout}");
    session.send(&message(b'Q', &[begin.as_bytes(), b"\0"])).await?;
    until_ready(&mut session, |_, _| Ok(())).await?;
    let mut answers = Answers { row: first_row(&mut session, &check.probe.query).await?, newest: None };
    if let Some(query) = check.newest_query() {
        session.begin(Stage::Newest);
        answers.newest = first_row(&mut session, query).await?;
    }
    session.talk.trace.enter(Phase::Total);
    session.farewell(&message(b'X', &[]));
    Ok(answers)
}

/// TLS, if `sslmode` asks for it and the server has it; and whether the connection is encrypted.
async fn secure(
    check: &SqlCheck,
    mut stream: Watched<TcpStream>,
    talk: &mut Talk,
) -> Result<(Box<dyn Duplex>, bool), Failure> {
    if let Some(anchor) = &check.anchor {
        talk.trace.enter(Phase::Tls);
        let mut request = 8_i32.to_be_bytes().to_vec();
        request.extend(SSL_REQUEST.to_be_bytes());
        talk.note_sent();
        stream.write_all(&request).await.map_err(|error| broken(&error, Phase::Tls))?;
        // One byte and no more: what else came in clear would otherwise be taken for encrypted.
        let answer = stream.read_u8().await.map_err(|error| broken(&error, Phase::Tls))?;
        match (answer, check.probe.sslmode) {
            (b'S', mode) => {
                return Ok((encrypt(Box::new(stream), &check.probe.host, mode, anchor, talk).await?, true));
            }
            (b'N', SslMode::Prefer) => {}
            (b'N', _) => return Err(fail(CheckResult::Tls, Trouble::NoTls)),
            _ => return Err(foreign()),
        }
    }
    talk.trace.enter(Phase::Processing);
    Ok((Box::new(Watched::new(stream, talk.trace.app.clone())), false))
}

/// Who we are and how we want texts and times.
fn startup(probe: &SqlProbe, settings: Settings) -> Vec<u8> {
    let mut startup = PROTOCOL.to_be_bytes().to_vec();
    let zone = settings.offset.map(time_zone);
    let database = probe.database.as_ref().unwrap_or(&probe.user);
    let parameters = [
        ("user", Some(probe.user.as_str())),
        ("database", Some(database)),
        ("application_name", Some("ioc-watch")),
        ("client_encoding", Some("UTF8")),
        ("DateStyle", Some("ISO")),
        ("TimeZone", zone.as_deref()),
    ];
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        for text in [name, value] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
    }
    startup.push(0);
    let mut packet = length(4 + startup.len()).to_vec();
    packet.extend(startup);
    packet
}

async fn log_in(
    check: &SqlCheck,
    session: &mut Session<'_>,
    settings: Settings,
    encrypted: bool,
) -> Result<(), Failure> {
    let probe = &check.probe;
    session.send(&startup(probe, settings)).await?;
    let mut scram = None;
    loop {
        let (kind, body) = receive(session).await?;
        let mut cursor = Cursor(&body);
        match kind {
            b'R' => {}
            b'E' => return Err(refusal(session.talk.stage, &body)),
            b'N' | b'S' => continue,
            _ => return Err(foreign()),
        }
        let method = integer(&mut cursor).ok_or_else(foreign)?;
        let password = || probe.password.as_ref().map(Secret::expose).ok_or_else(no_password);
        let answer = match method {
            // A server that asked for SCRAM must have proved itself first.
            0 if scram.as_ref().is_some_and(|(_, proved)| !proved) => {
                return Err(fail(CheckResult::Error, Trouble::Impostor));
            }
            0 => break,
            3 if encrypted && probe.sslmode != SslMode::Prefer => {
                let password = password()?;
                message(b'p', &[password.as_bytes(), b"\0"])
            }
            3 => return Err(fail(CheckResult::Error, Trouble::InClear)),
            5 => message(b'p', &[md5_answer(&probe.user, password()?, cursor.0).as_bytes(), b"\0"]),
            10 => {
                // Each exchange costs us work: there is one.
                if scram.is_some() {
                    return Err(foreign());
                }
                if !mechanisms(cursor.0).any(|mechanism| mechanism == scram::NAME.as_bytes()) {
                    return Err(fail(CheckResult::Error, Trouble::Method { name: "SASL".into() }));
                }
                password()?;
                let first = scram.insert((Scram::new()?, false)).0.first();
                message(b'p', &[scram::NAME.as_bytes(), b"\0", &length(first.len()), first.as_bytes()])
            }
            11 => {
                let (scram, _) = scram.as_mut().ok_or_else(foreign)?;
                message(b'p', &[scram.prove(cursor.0, password()?, &check.salted).await?.as_bytes()])
            }
            12 => {
                let (scram, proved) = scram.as_mut().ok_or_else(foreign)?;
                scram.verify(cursor.0)?;
                *proved = true;
                continue;
            }
            other => {
                let names = [(2, "Kerberos"), (7, "GSSAPI"), (8, "GSSAPI"), (9, "SSPI")];
                let name = names.iter().find(|(code, _)| *code == other).map(|(_, name)| (*name).to_owned());
                let name = name.unwrap_or_else(|| other.to_string());
                return Err(fail(CheckResult::Error, Trouble::Method { name }));
            }
        };
        session.send(&answer).await?;
    }
    until_ready(session, |_, _| Ok(())).await
}

/// Runs one statement; its first row.
async fn first_row(session: &mut Session<'_>, query: &str) -> Result<Option<Row>, Failure> {
    let mut messages = message(b'P', &[b"\0", query.as_bytes(), b"\0\0\0"]);
    // No parameters; all columns as text.
    messages.extend(message(b'B', &[b"\0\0", &[0; 6]]));
    messages.extend(message(b'D', &[b"P\0"]));
    messages.extend(message(b'E', &[b"\0", &1_i32.to_be_bytes()]));
    messages.extend(message(b'S', &[]));
    session.send(&messages).await?;
    let (mut columns, mut row) = (Vec::new(), None);
    until_ready(session, |kind, body| {
        match kind {
            b'T' => columns = description(body).ok_or_else(foreign)?,
            b'D' if row.is_none() => row = Some(data_row(body, &columns).ok_or_else(foreign)?),
            // COPY, which no reading statement begins with.
            b'G' | b'H' | b'W' => return Err(foreign()),
            _ => {}
        }
        Ok(())
    })
    .await?;
    Ok(row)
}

/// Reads messages up to ReadyForQuery; an error of the server ends it.
async fn until_ready(
    session: &mut Session<'_>,
    mut take: impl FnMut(u8, &[u8]) -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    loop {
        let (kind, body) = receive(session).await?;
        if kind == b'D' {
            session.answered();
        }
        match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(refusal(session.talk.stage, &body)),
            _ => take(kind, &body)?,
        }
    }
}

/// One message: its type and its body.
async fn receive(session: &mut Session<'_>) -> Result<(u8, Vec<u8>), Failure> {
    let head = session.read(5).await?;
    let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    // What speaks another protocol shows itself in the first bytes.
    let known = b"RSKZEN12sCDTtnAIGHWv".contains(&head[0]);
    let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let length = length.filter(|length| known && *length < 1 << 30).ok_or_else(foreign)?;
    Ok((head[0], session.read(length).await?))
}

fn refusal(stage: Stage, body: &[u8]) -> Failure {
    let (mut code, mut text) = (String::new(), String::new());
    let mut cursor = Cursor(body);
    while let Some(field) = cursor.u8().filter(|field| *field != 0) {
        let Some(value) = cursor.text() else { break };
        match field {
            b'C' => code = shown(&String::from_utf8_lossy(value)),
            b'M' => text = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    let result = if code == CANCELED { CheckResult::Timeout } else { CheckResult::Error };
    let message = Trouble::harmless(&code, &text);
    fail(result, Trouble::Server { stage, code, message })
}

fn foreign() -> Failure {
    fail(CheckResult::Error, Trouble::Foreign { engine: ENGINE })
}

fn no_password() -> Failure {
    fail(CheckResult::Error, Trouble::NoPassword)
}

fn description(body: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut cursor = Cursor(body);
    let n = count(&mut cursor)?;
    (0..n)
        .map(|_| {
            let name = String::from_utf8_lossy(cursor.text()?).into_owned();
            // The table's OID and column number; the type's OID; its size, modifier and format.
            cursor.take(6)?;
            let oid = integer(&mut cursor)?;
            cursor.take(8)?;
            Some((name, oid))
        })
        .collect()
}

fn data_row(body: &[u8], columns: &[(String, i32)]) -> Option<Row> {
    let mut cursor = Cursor(body);
    let n = count(&mut cursor)?;
    if n != columns.len() {
        return None;
    }
    columns
        .iter()
        .map(|(name, oid)| {
            let bytes = match usize::try_from(integer(&mut cursor)?) {
                Ok(length) => Some(cursor.take(length)?),
                Err(_) => None,
            };
            let kind = if *oid == OID_BOOL { Kind::Bool } else { Kind::Other };
            Some(Cell::new(name.clone(), bytes, kind))
        })
        .collect()
}

fn integer(cursor: &mut Cursor<'_>) -> Option<i32> {
    Some(i32::from_be_bytes(cursor.take(4)?.try_into().ok()?))
}

fn count(cursor: &mut Cursor<'_>) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(cursor.take(2)?.try_into().ok()?)))
}

fn mechanisms(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// A message of `kind`; its body in parts.
fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut message = vec![kind];
    message.extend(length(4 + body.len()));
    message.extend(body);
    message
}

/// Our messages are as long as the configuration allows queries and passwords to be: far from 2 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    let hex = |digest: &[u8]| {
        digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let inner = hex(&Md5::new().chain_update(password).chain_update(user).finalize());
    format!("md5{}", hex(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

/// As POSIX writes zones, which every server knows, with the sign the other way round: `<+07:00>-07:00`.
fn time_zone(offset: Offset) -> String {
    let (hours, minutes) = (offset.seconds().abs() / 3600, offset.seconds().abs() / 60 % 60);
    let (east, west) = if offset.seconds() < 0 { ('-', '+') } else { ('+', '-') };
    format!("<{east}{hours:02}:{minutes:02}>{west}{hours:02}:{minutes:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_written_the_posix_way() {
        assert_eq!(time_zone(Offset::constant(7)), "<+07:00>-07:00");
        assert_eq!(time_zone(Offset::from_seconds(-(3 * 3600 + 1800)).unwrap()), "<-03:30>+03:30");
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_us_panic(body: Vec<u8>) {
            let columns = [("a".to_owned(), OID_BOOL), ("b".to_owned(), 23)];
            let _ = (description(&body), data_row(&body, &columns), refusal(Stage::Query, &body));
            let _ = mechanisms(&body).count();
        }
    }

    #[test]
    fn damaged_messages_are_no_rows() {
        let columns = [("n".to_owned(), 23)];
        for body in [&[][..], &[0, 1], &[0, 1, 0, 0, 0, 9, b'1'], &[0, 2, 255, 255, 255, 255], &[255, 255]] {
            assert_eq!(data_row(body, &columns), None, "{body:?}");
            assert_eq!(description(body), None, "{body:?}");
        }
        let null = data_row(&[0, 1, 255, 255, 255, 255], &columns).unwrap();
        assert_eq!(null, [Cell::new("n".into(), None, Kind::Other)]);
    }
}
