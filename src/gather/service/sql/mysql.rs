//! MySQL's and MariaDB's protocol after the login: a read-only session, one row of a query.
//!
//! Several statements in one are never allowed by us, so a query is one statement whatever it says.

use super::super::detail::Failure;
use super::super::outcome::{CheckResult, Phase};
use super::super::watch::Watched;
use super::answer::{Answers, Cell, Kind, Row};
use super::mysql_login::{Greeting, log_in, packet};
use super::session::{Cursor, Session, Talk, fail};
use super::trouble::{Stage, Trouble};
use super::{Settings, SqlCheck};
use jiff::tz::Offset;
use tokio::net::TcpStream;

const ENGINE: &str = "MySQL";
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
/// More columns than MySQL's tables can have are not those of an answer.
const COLUMNS_MAX: u64 = 4096;
/// The column type of TIMESTAMP, which is sent in the session's time zone; DATETIME is sent as it was stored.
const TIMESTAMP: u8 = 7;
/// Statements given up by the server: MySQL's limit, MariaDB's.
const GIVEN_UP: [u16; 2] = [3024, 1969];

/// Logs in and asks.
pub(super) async fn ask(
    check: &SqlCheck,
    stream: Watched<TcpStream>,
    talk: &mut Talk,
    settings: Settings,
) -> Result<Answers, Failure> {
    let (mut session, greeting) = log_in(check, stream, talk).await?;
    session.begin(Stage::Query);
    // Of the session too: a statement that commits implicitly would else leave the transaction.
    for statement in ["SET SESSION TRANSACTION READ ONLY", &limits(&greeting, settings), "START TRANSACTION READ ONLY"]
    {
        query(&mut session, statement, None).await?;
    }
    let mut answers = Answers { row: query(&mut session, &check.probe.query, settings.offset).await?, newest: None };
    if let Some(newest) = check.newest_query() {
        session.begin(Stage::Newest);
        answers.newest = query(&mut session, newest, settings.offset).await?;
    }
    session.talk.trace.enter(Phase::Total);
    session.farewell(&packet(0, &[COM_QUIT]));
    Ok(answers)
}

/// One row, not for ever, times in our zone.
fn limits(greeting: &Greeting, settings: Settings) -> String {
    let timeout = settings.statement_timeout;
    let timeout = if greeting.is_mariadb {
        format!("max_statement_time={}", timeout.as_secs_f64())
    } else {
        format!("max_execution_time={}", timeout.as_millis())
    };
    let zone = settings.offset.map(|offset| format!(", time_zone='{}'", time_zone(offset))).unwrap_or_default();
    format!("SET SESSION sql_select_limit=1, {timeout}{zone}")
}

fn time_zone(offset: Offset) -> String {
    let sign = if offset.seconds() < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.seconds().abs() / 3600, offset.seconds().abs() / 60 % 60);
    format!("{sign}{hours:02}:{minutes:02}")
}

/// Runs one statement; its first row. `zone` is the session's.
async fn query(session: &mut Session<'_>, text: &str, zone: Option<Offset>) -> Result<Option<Row>, Failure> {
    let mut command = vec![COM_QUERY];
    command.extend(text.as_bytes());
    send(session, 0, &command).await?;
    let (_, first) = receive(session).await?;
    let n = match first.first() {
        Some(0x00) => return Ok(None),
        Some(0xff) => return Err(refusal(session.talk.stage, &first)),
        // The server would like to read a file of ours.
        Some(0xfb) | None => return Err(foreign()),
        Some(_) => number(&mut Cursor(&first)).filter(|n| *n <= COLUMNS_MAX).ok_or_else(foreign)?,
    };
    session.answered();
    let mut columns = Vec::new();
    for _ in 0..n {
        let (_, body) = receive(session).await?;
        columns.push(column(&body, zone).ok_or_else(foreign)?);
    }
    let (_, end) = receive(session).await?;
    if !is_end(&end) {
        return Err(foreign());
    }
    let mut row = None;
    loop {
        let (_, body) = receive(session).await?;
        match body.first() {
            Some(0xff) => return Err(refusal(session.talk.stage, &body)),
            _ if is_end(&body) => return Ok(row),
            _ if row.is_none() => row = Some(text_row(&body, &columns).ok_or_else(foreign)?),
            // The server was told to send one; a procedure or a SHOW may send more, within the bounds of the session.
            _ => {}
        }
    }
}

fn is_end(body: &[u8]) -> bool {
    body.first() == Some(&0xfe) && body.len() < 9
}

fn column(body: &[u8], zone: Option<Offset>) -> Option<(String, Kind)> {
    let mut cursor = Cursor(body);
    // Catalog, schema, table, and the table's own name.
    for _ in 0..4 {
        text(&mut cursor)?;
    }
    let name = String::from_utf8_lossy(text(&mut cursor)?).into_owned();
    text(&mut cursor)?;
    // The length of what follows; character set; width.
    cursor.take(1 + 2 + 4)?;
    let kind = match (cursor.u8()?, zone) {
        (TIMESTAMP, Some(offset)) => Kind::Moment(offset),
        _ => Kind::Other,
    };
    Some((name, kind))
}

fn text_row(body: &[u8], columns: &[(String, Kind)]) -> Option<Row> {
    let mut cursor = Cursor(body);
    columns
        .iter()
        .map(|(name, kind)| {
            let bytes = if cursor.0.first() == Some(&0xfb) {
                cursor.take(1)?;
                None
            } else {
                Some(text(&mut cursor)?)
            };
            Some(Cell::new(name.clone(), bytes, *kind))
        })
        .collect()
}

/// A length-encoded number.
fn number(cursor: &mut Cursor<'_>) -> Option<u64> {
    let width = match cursor.u8()? {
        small @ 0..=0xfa => return Some(u64::from(small)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    Some(cursor.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A length-encoded text.
fn text<'b>(cursor: &mut Cursor<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(number(cursor)?).ok()?;
    cursor.take(length)
}

pub(super) async fn send(session: &mut Session<'_>, sequence: u8, body: &[u8]) -> Result<(), Failure> {
    session.send(&packet(sequence, body)).await
}

/// One message: its sequence number and its body.
pub(super) async fn receive(session: &mut Session<'_>) -> Result<(u8, Vec<u8>), Failure> {
    let head = session.read(4).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    Ok((head[3], session.read(length).await?))
}

/// What the server's error says.
pub(super) fn refusal(stage: Stage, body: &[u8]) -> Failure {
    let mut cursor = Cursor(body);
    let mut parsed = || -> Option<(u16, String, String)> {
        cursor.take(1)?;
        let number = u16::from_le_bytes(cursor.take(2)?.try_into().ok()?);
        let mut state = String::new();
        if cursor.0.first() == Some(&b'#') {
            cursor.take(1)?;
            state = String::from_utf8_lossy(cursor.take(5)?).into_owned();
        }
        Some((number, state, String::from_utf8_lossy(cursor.0).into_owned()))
    };
    let Some((number, mut state, message)) = parsed() else { return foreign() };
    // Errors of the server itself, that have no class of their own: too many connections, our host is blocked or not
    // allowed, it starts or stops, lock waits, limits of time.
    const HARMLESS: [u16; 10] = [1040, 1129, 1130, 1053, 1205, 1226, 1290, 3024, 4031, 1969];
    if HARMLESS.contains(&number) {
        state = "08000".into();
    }
    let result = if GIVEN_UP.contains(&number) { CheckResult::Timeout } else { CheckResult::Error };
    let message = Trouble::harmless(&state, &message);
    fail(result, Trouble::Server { stage, code: number.to_string(), message })
}

pub(super) fn foreign() -> Failure {
    fail(CheckResult::Error, Trouble::Foreign { engine: ENGINE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_messages_are_no_rows() {
        let columns = [("n".to_owned(), Kind::Other)];
        for body in [&[][..], &[5, b'1'], &[0xfc, 1], &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255], &[0xff]] {
            assert_eq!(text_row(body, &columns), None, "{body:?}");
            assert_eq!(column(body, None), None, "{body:?}");
        }
        let row = text_row(&[0xfb], &columns).unwrap();
        assert_eq!(row, [Cell::new("n".into(), None, Kind::Other)]);
        assert_eq!(number(&mut Cursor(&[0xfd, 1, 2, 3])), Some(0x03_02_01));
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_us_panic(body: Vec<u8>) {
            let columns = [("a".to_owned(), Kind::Other), ("b".to_owned(), Kind::Other)];
            let _ = (text_row(&body, &columns), column(&body, None), number(&mut Cursor(&body)));
            let _ = refusal(Stage::Query, &body);
        }
    }

    #[test]
    fn zones_are_written_as_offsets() {
        assert_eq!(time_zone(Offset::constant(7)), "+07:00");
        assert_eq!(time_zone(Offset::from_seconds(-12_600).unwrap()), "-03:30");
    }
}
