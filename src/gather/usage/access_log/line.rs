//! One line of an access log: nginx's and Apache's combined format, or a JSON object. Pure; hostile bytes give a
//! [`Rejection`], never a guess.

use crate::config::usage::access_log::{Field, LogFormat};
use crate::feed::value::shorten;
use crate::feed::{Reason, Rejection};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is needed of a request. `-` and nothing are both empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub address: Cow<'a, str>,
    /// The name that the visitor logged in by, where the web server knows it.
    pub user: Cow<'a, str>,
    pub time: Timestamp,
    /// Without the query.
    pub path: Cow<'a, str>,
    pub status: u16,
    pub agent: Cow<'a, str>,
    /// What the line says of its agency.
    pub agency: Cow<'a, str>,
}

pub fn parse<'a>(format: &LogFormat, agency: Option<&Field>, line: &'a [u8]) -> Result<Request<'a>, Rejection> {
    match format {
        LogFormat::Combined => {
            let field = match agency {
                Some(Field::Extra(place)) => Some(*place),
                _ => None,
            };
            combined(line, field)
        }
        LogFormat::Json(names) => {
            let key = match agency {
                Some(Field::Key(key)) => Some(key.as_str()),
                _ => None,
            };
            json(line, names, key)
        }
    }
}

/// `ADDRESS IDENT USER [TIME] "REQUEST" STATUS BYTES "REFERER" "AGENT"`, then any number of quoted fields.
fn combined(line: &[u8], agency: Option<usize>) -> Result<Request<'_>, Rejection> {
    let not_combined =
        |what: &str| Rejection::new(Reason::Fields, format!("not a line of the combined format: {what}"));
    let space = memchr::memchr(b' ', line).ok_or_else(|| not_combined("no space"))?;
    let opens = memchr::memmem::find(line, b" [").ok_or_else(|| not_combined("no [time]"))?;
    let closes = memchr::memchr(b']', &line[opens..]).map(|at| opens + at).ok_or_else(|| not_combined("no ]"))?;
    // A user's name may hold spaces; the name of the ident protocol never does.
    let names = line.get(space + 1..opens).unwrap_or_default();
    let user = memchr::memchr(b' ', names).map_or(&names[..0], |at| &names[at + 1..]);
    let time = &line[opens + 2..closes];
    let rest = line.get(closes + 1..).unwrap_or_default();
    let (request, rest) = quoted(rest).ok_or_else(|| not_combined("no \"request\""))?;
    let mut numbers = rest.splitn(4, |b| *b == b' ').skip(1);
    let status = numbers.next().unwrap_or_default();
    let _bytes = numbers.next().ok_or_else(|| not_combined("no size"))?;
    let rest = numbers.next().ok_or_else(|| not_combined("no \"referer\""))?;
    let (_referer, rest) = quoted(rest).ok_or_else(|| not_combined("no \"referer\""))?;
    let (agent, mut rest) = quoted(rest).ok_or_else(|| not_combined("no \"user agent\""))?;
    let mut named = &line[..0];
    for place in 1..=agency.unwrap_or_default() {
        let (field, after) =
            quoted(rest).ok_or_else(|| not_combined(&format!("no quoted field {place} after the user agent")))?;
        (named, rest) = (field, after);
    }
    Ok(Request {
        address: text(&line[..space]),
        user: text(user),
        time: apache_time(time).ok_or_else(|| bad_time(&String::from_utf8_lossy(time)))?,
        path: path_of(text(request)),
        status: status_of(&String::from_utf8_lossy(status))?,
        agent: text(agent),
        agency: text(named),
    })
}

/// The next quoted field, as it stands between its quotes, and what follows. A backslash guards the byte after it.
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = bytes.iter().position(|b| *b != b' ')?;
    if bytes[begin] != b'"' {
        return None;
    }
    let inner = &bytes[begin + 1..];
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', inner.get(at..)?)?;
        if inner[at] == b'"' {
            return Some((&inner[..at], &inner[at + 1..]));
        }
        at += 2;
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    if bytes == b"-" { Cow::Borrowed("") } else { String::from_utf8_lossy(bytes) }
}

/// The path of `GET /path?query HTTP/1.1`; nothing for what is no request.
fn path_of(request: Cow<'_, str>) -> Cow<'_, str> {
    let path = |text: &str| {
        let mut words = text.split(' ');
        let target = words.nth(1).unwrap_or_default();
        let length = target.find(['?', '#']).unwrap_or(target.len());
        let start = text.find(' ').map_or(text.len(), |at| at + 1);
        start..start + length
    };
    match request {
        Cow::Borrowed(text) => Cow::Borrowed(&text[path(text)]),
        Cow::Owned(text) => Cow::Owned(text[path(&text)].to_owned()),
    }
}

fn status_of(text: &str) -> Result<u16, Rejection> {
    let status = text.parse().ok().filter(|status| (100..1_000).contains(status));
    status.ok_or_else(|| Rejection::new(Reason::Status, format!("{:?} is not the status of a response", shorten(text))))
}

fn bad_time(text: &str) -> Rejection {
    Rejection::new(Reason::Time, format!("{:?} is not a time", shorten(text)))
}

/// `26/Nov/2026:07:02:12 +0700`.
fn apache_time(bytes: &[u8]) -> Option<Timestamp> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    if bytes.len() != 26 || bytes[2] != b'/' || bytes[6] != b'/' || bytes[11] != b':' || bytes[20] != b' ' {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0_i16, |n, b| n * 10 + i16::from(b - b'0')))
    };
    let small = |from: usize| number(from, from + 2).and_then(|n| i8::try_from(n).ok());
    let month = MONTHS.iter().position(|month| *month == &bytes[3..6])?;
    let civil =
        DateTime::new(number(7, 11)?, month as i8 + 1, small(0)?, small(12)?, small(15)?, small(18)?, 0).ok()?;
    let minutes = i32::from(small(22)?) * 60 + i32::from(small(24)?);
    let seconds = match bytes[21] {
        b'+' => minutes * 60,
        b'-' => -minutes * 60,
        _ => return None,
    };
    Offset::from_seconds(seconds).ok()?.to_timestamp(civil).ok()
}

fn json<'a>(
    line: &'a [u8],
    names: &BTreeMap<&'static str, String>,
    agency: Option<&str>,
) -> Result<Request<'a>, Rejection> {
    let object: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| Rejection::new(Reason::Fields, format!("not a JSON object: {error}")))?;
    let cell = |key: &str| -> String {
        match object.get(key) {
            Some(Value::String(text)) if text != "-" => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    };
    let named = |name: &str| names.get(name).map(|key| cell(key)).unwrap_or_default();
    let needed = |name: &str| {
        let found = named(name);
        let key = names.get(name).map(String::as_str).unwrap_or_default();
        if found.is_empty() { Err(Rejection::new(Reason::Missing, format!("no {key:?}"))) } else { Ok(found) }
    };
    let (time, status, address) = (needed("time")?, needed("status")?, needed("address")?);
    let path = match named("path") {
        path if path.is_empty() => path_of(Cow::Owned(named("request"))),
        path => Cow::Owned(path.split(['?', '#']).next().unwrap_or_default().to_owned()),
    };
    Ok(Request {
        address: Cow::Owned(address),
        user: Cow::Owned(named("user")),
        time: json_time(&time).ok_or_else(|| bad_time(&time))?,
        path,
        status: status_of(&status)?,
        agent: Cow::Owned(named("agent")),
        agency: Cow::Owned(agency.map(cell).unwrap_or_default()),
    })
}

/// ISO 8601 with its offset, seconds since 1970 (nginx's `$msec`), or as in the combined format.
fn json_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        // Beyond the calendar it is no time either.
        return (seconds.abs() < 1e11).then(|| Timestamp::from_millisecond((seconds * 1e3) as i64).ok())?;
    }
    apache_time(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"10.20.3.4 - lan.nt [26/Nov/2026:07:02:12 +0700] "GET /ho-so/12?ma=H49 HTTP/1.1" 200 512 "https://dvc.vn.example/" "Mozilla/5.0 (X11; \"thu\")" "tam-ky" "-""#;

    #[test]
    fn a_combined_line_gives_its_parts() {
        let request = parse(&LogFormat::Combined, Some(&Field::Extra(1)), LINE.as_bytes()).unwrap();
        assert_eq!(request.address, "10.20.3.4");
        assert_eq!(request.user, "lan.nt");
        assert_eq!(request.time, "2026-11-26T00:02:12Z".parse().unwrap());
        assert_eq!(request.path, "/ho-so/12");
        assert_eq!(request.status, 200);
        assert_eq!(request.agent, "Mozilla/5.0 (X11; \\\"thu\\\")");
        assert_eq!(request.agency, "tam-ky");
        let request = parse(&LogFormat::Combined, Some(&Field::Extra(2)), LINE.as_bytes()).unwrap();
        assert_eq!(request.agency, "");
    }

    #[test]
    fn a_json_line_gives_the_same_parts_however_its_time_is_written() {
        let keys = ["address", "user", "time", "request", "path", "status", "agent"];
        let names: BTreeMap<&'static str, String> = keys.iter().map(|name| (*name, format!("k_{name}"))).collect();
        for time in
            [r#""2026-11-26T07:02:12+07:00""#, "1795651332.000", r#""1795651332""#, r#""26/Nov/2026:07:02:12 +0700""#]
        {
            let line = format!(
                r#"{{"k_address":"10.20.3.4","k_user":"-","k_time":{time},"k_request":"GET /a?b HTTP/2.0","k_status":404,"k_agent":"M","unit":"Tam Kỳ","more":[1]}}"#
            );
            let format = LogFormat::Json(names.clone());
            let request = parse(&format, Some(&Field::Key("unit".into())), line.as_bytes()).unwrap();
            assert_eq!(request.time, "2026-11-26T00:02:12Z".parse().unwrap(), "{time}");
            assert_eq!((&*request.path, request.status, &*request.agency, &*request.user), ("/a", 404, "Tam Kỳ", ""));
        }
    }

    #[test]
    fn what_is_no_line_is_rejected_with_its_reason() {
        let cut = |to: usize| LINE.as_bytes()[..to].to_vec();
        let with = |from: &str, to: &str| LINE.replacen(from, to, 1).into_bytes();
        let rows: Vec<(Vec<u8>, Reason)> = vec![
            (b"".to_vec(), Reason::Fields),
            (b"\0\xff\xfe".to_vec(), Reason::Fields),
            (b"a [".to_vec(), Reason::Fields),
            (b"a []".to_vec(), Reason::Fields),
            (cut(40), Reason::Fields),
            (cut(100), Reason::Fields),
            (with("\"tam-ky\" \"-\"", ""), Reason::Fields),
            (with("\"-\"", "\"\\"), Reason::Fields),
            (with("26/Nov/2026", "31/Feb/2026"), Reason::Time),
            (with("26/Nov/2026", "26/Nôv/2026"), Reason::Time),
            (with("+0700", "+9999"), Reason::Time),
            (with("200", "2000"), Reason::Status),
            (with("200", "-"), Reason::Status),
        ];
        for (line, reason) in rows {
            let found = parse(&LogFormat::Combined, Some(&Field::Extra(2)), &line).map(|_| ());
            assert_eq!(found.map_err(|error| error.reason), Err(reason), "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn what_is_no_request_has_no_path_and_is_still_a_line() {
        for request in ["", "-", "\\x16\\x03\\x01", "GET", "GET "] {
            let line = LINE.replace("GET /ho-so/12?ma=H49 HTTP/1.1", request);
            assert_eq!(parse(&LogFormat::Combined, None, line.as_bytes()).unwrap().path, "", "{request}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0..250_usize, byte in 0..=255_u8) {
            let names = BTreeMap::from([("time", "t".to_owned())]);
            let _ = parse(&LogFormat::Json(names), None, &line);
            let _ = parse(&LogFormat::Combined, Some(&Field::Extra(3)), &line);
            let mut changed = LINE.as_bytes().to_vec();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            let _ = parse(&LogFormat::Combined, Some(&Field::Extra(1)), &changed);
        }
    }
}
