//! What every section's decoder is written with: a context that collects problems, sections whose keys are checked, and
//! readers of single values. What a section means stands beside its types, not here.
//!
//! A reader that finds something wrong records it and returns `None`; the caller goes on with a default. So one pass
//! reports everything, and a configuration is only built if nothing was recorded.
//!
//! Past 500 lines because it is one list of small readers through which whoever writes a section looks.

use super::environment::Expanded;
use super::node::{Entry, Node, Place, Value, quote, reason};
pub(super) use super::units::{nearest, parse_duration, write_duration};
use super::units::{parse_size, write_size};
use super::{Id, Problems, Secret};
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{Timestamp, tz::TimeZone};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use unicode_normalization::UnicodeNormalization;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(super) const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Longest secret file that is read, in bytes.
const MAX_SECRET: usize = 64 * 1024;

/// Where decoding stands: the file, its problems, and the names that others may refer to.
pub(super) struct Context<'a> {
    pub file: &'a Path,
    pub problems: &'a mut Problems,
    /// Site time, for dates without an offset.
    pub zone: TimeZone,
    /// Ids that are declared, sound or not: a reference to a broken entry is not a second problem.
    pub people: Vec<String>,
    pub agencies: Vec<String>,
    pub dependencies: Vec<String>,
    pub services: Vec<String>,
    /// The scalars with values of the environment.
    pub expanded: Expanded,
    /// The key being read, for messages.
    field: String,
}

impl<'a> Context<'a> {
    pub fn new(file: &'a Path, problems: &'a mut Problems, zone: TimeZone) -> Context<'a> {
        Context {
            file,
            problems,
            zone,
            people: Vec::new(),
            agencies: Vec::new(),
            dependencies: Vec::new(),
            services: Vec::new(),
            expanded: Expanded::new(),
            field: String::new(),
        }
    }

    /// Records a problem at a place, as it is.
    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.problems.add(self.file, place.line, place.column, message);
    }

    /// Records a problem of the value of the key being read.
    pub fn wrong(&mut self, node: &Node, message: impl AsRef<str>) {
        if node.value == Value::Invalid {
            return;
        }
        let message = message.as_ref();
        let message = if self.field.is_empty() { message.to_owned() } else { format!("{}: {message}", self.field) };
        self.error(node.place, message);
    }

    /// `KEY: found X, expected Y`.
    pub fn expected(&mut self, node: &Node, what: &str) {
        // A value of the environment may be a password.
        let found = if self.expanded.contains_key(&node.place) { "a value from ${…}".into() } else { node.found() };
        self.wrong(node, format!("found {found}, expected {what}"));
    }

    /// A path relative to the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        match self.file.parent() {
            Some(directory) if path.is_relative() => directory.join(path.strip_prefix("./").unwrap_or(path)),
            _ => path.to_path_buf(),
        }
    }

    fn field<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.field, key.to_owned());
        let result = read(self);
        self.field = outer;
        result
    }
}

/// A mapping whose keys were checked.
#[derive(Clone, Copy)]
pub(super) struct Section<'n> {
    name: &'n str,
    pub place: Place,
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Checks the keys of a mapping: `keys` are known, `later` are named by the design but not supported yet. Nothing
    /// counts as an empty mapping (everything in it may be commented out).
    pub fn open(
        cx: &mut Context<'_>,
        node: &'n Node,
        name: &'n str,
        keys: &[&str],
        later: &[&str],
    ) -> Option<Section<'n>> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let mut keys = keys.to_vec();
                keys.sort_unstable();
                cx.expected(node, &format!("a mapping with the keys {}", keys.join(", ")));
                return None;
            }
        };
        for entry in entries {
            let key = entry.key.as_str();
            if keys.contains(&key) {
                continue;
            }
            let message = unknown_key(name, key, keys, later);
            cx.error(entry.place, message);
        }
        Some(Section { name, place: node.place, entries })
    }

    /// What the mapping is called in messages.
    pub fn name(&self) -> &'n str {
        self.name
    }

    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value of a key, `None` if it is absent or wrong.
    pub fn optional<T>(
        &self,
        cx: &mut Context<'_>,
        key: &str,
        read: impl FnOnce(&mut Context<'_>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        cx.field(key, |cx| read(cx, node))
    }

    /// The value of a key that must be there.
    pub fn required<T>(
        &self,
        cx: &mut Context<'_>,
        key: &str,
        read: impl FnOnce(&mut Context<'_>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            cx.error(self.place, format!("{}: the key \"{key}\" is missing", self.name));
            return None;
        }
        self.optional(cx, key, read)
    }
}

fn unknown_key(section: &str, key: &str, keys: &[&str], later: &[&str]) -> String {
    let secret = format!("{key}_file");
    if keys.contains(&secret.as_str()) {
        return format!(
            "{section}: {} is not allowed: secrets do not stand in this file; write the secret to a file of its own \
             and name it with \"{secret}\"",
            quote(key)
        );
    }
    if later.contains(&key) {
        return format!("{section}: {} is not supported yet", quote(key));
    }
    let mut allowed = keys.to_vec();
    allowed.sort_unstable();
    format!("{section}: unknown key {}{} (allowed: {})", quote(key), nearest(key, keys), allowed.join(", "))
}

/// Each element of a list; nothing counts as an empty list. Wrong elements are left out.
pub(super) fn list<'n, T>(
    mut read: impl FnMut(&mut Context<'_>, &'n Node) -> Option<T>,
) -> impl FnOnce(&mut Context<'_>, &'n Node) -> Option<Vec<T>> {
    move |cx, node| match &node.value {
        Value::Null => Some(Vec::new()),
        Value::Sequence(nodes) => Some(nodes.iter().filter_map(|node| read(cx, node)).collect()),
        _ => {
            cx.expected(node, "a list");
            None
        }
    }
}

/// Text that is not blank, as written.
pub(super) fn text(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    match node.as_text() {
        Some(text) if !text.trim().is_empty() => Some(text.to_owned()),
        _ => {
            cx.expected(node, "text");
            None
        }
    }
}

/// Text for people, in NFC and trimmed.
pub(super) fn name(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text: String = text(cx, node)?.trim().nfc().collect();
    if text.contains(char::is_control) {
        cx.wrong(node, format!("found {}, expected one line of text without control characters", quote(&text)));
        return None;
    }
    Some(text)
}

pub(super) fn id(cx: &mut Context<'_>, node: &Node) -> Option<Id> {
    let id = node.as_text().and_then(Id::parse);
    if id.is_none() {
        cx.expected(node, &format!("an id: {}", Id::ALLOWED));
    }
    id
}

/// The id of a declared person.
pub(super) fn person(cx: &mut Context<'_>, node: &Node) -> Option<Id> {
    reference(cx, node, "person", |cx| &cx.people)
}

/// The id of a declared agency.
pub(super) fn agency(cx: &mut Context<'_>, node: &Node) -> Option<Id> {
    reference(cx, node, "agency", |cx| &cx.agencies)
}

/// The id of a declared dependency.
pub(super) fn dependency(cx: &mut Context<'_>, node: &Node) -> Option<Id> {
    reference(cx, node, "dependency", |cx| &cx.dependencies)
}

/// The id of a declared service.
pub(super) fn service(cx: &mut Context<'_>, node: &Node) -> Option<Id> {
    reference(cx, node, "service", |cx| &cx.services)
}

fn reference(
    cx: &mut Context<'_>,
    node: &Node,
    what: &str,
    known: impl for<'c> Fn(&'c Context<'_>) -> &'c Vec<String>,
) -> Option<Id> {
    let id = id(cx, node)?;
    if known(cx).iter().any(|known| known.as_str() == id.as_str()) {
        return Some(id);
    }
    let near = nearest(&id, known(cx));
    cx.wrong(node, format!("no {what} has the id {}{near}", quote(&id)));
    None
}

/// The `timeout` of a check made every `every`: 10 s if it is not given, never longer than `every`.
pub(super) fn timeout(cx: &mut Context<'_>, section: &Section<'_>, every: Duration) -> Duration {
    match section.optional(cx, "timeout", duration(SECOND / 10..=DAY)) {
        Some(timeout) if timeout > every => {
            if let Some(node) = section.get("timeout") {
                let every = write_duration(every);
                cx.error(node.place, format!("timeout: found {}, longer than every ({every})", node.found()));
            }
            every
        }
        Some(timeout) => timeout,
        None => every.min(10 * SECOND),
    }
}

pub(super) fn boolean(cx: &mut Context<'_>, node: &Node) -> Option<bool> {
    match node.as_text() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => {
            cx.expected(node, "true or false");
            None
        }
    }
}

/// One of some words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&mut Context<'_>, &Node) -> Option<T> {
    move |cx, node| {
        let found = node.as_text().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = node.as_text().map_or(String::new(), |text| nearest(text, &allowed));
            let is_word =
                |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            let allowed: Vec<String> = allowed
                .iter()
                .map(|word| if is_word(word) { (*word).to_owned() } else { format!("{word:?}") })
                .collect();
            cx.expected(node, &format!("{}{}{near}", one_of(&allowed), allowed.join(", ")));
        }
        found.map(|(_, value)| *value)
    }
}

fn one_of(allowed: &[String]) -> &'static str {
    if allowed.len() > 1 { "one of " } else { "" }
}

/// A whole number within bounds.
pub(super) fn integer(range: RangeInclusive<u64>) -> impl Fn(&mut Context<'_>, &Node) -> Option<u64> {
    move |cx, node| {
        let number = node.as_text().and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        if number.is_none() {
            cx.expected(node, &format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }
}

/// A number within bounds.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&mut Context<'_>, &Node) -> Option<f64> {
    move |cx, node| {
        let number = node.as_text().and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        if number.is_none() {
            let what = match (*range.start(), *range.end()) {
                (f64::MIN, f64::MAX) => "a number".to_owned(),
                (start, f64::MAX) => format!("a number of at least {start}"),
                (start, end) => format!("a number from {start} to {end}"),
            };
            cx.expected(node, &what);
        }
        number
    }
}

/// A duration within bounds, such as `30s`, `1h30m`, `7d`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&mut Context<'_>, &Node) -> Option<Duration> {
    move |cx, node| {
        let Some(duration) = node.as_text().and_then(parse_duration) else {
            cx.expected(node, "a duration such as 30s, 5m, 2h, 7d or 1w");
            return None;
        };
        if !range.contains(&duration) {
            let (from, to) = (write_duration(*range.start()), write_duration(*range.end()));
            cx.expected(node, &format!("a duration from {from} to {to}"));
            return None;
        }
        Some(duration)
    }
}

/// A size in bytes, such as `512MiB`, within bounds.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&mut Context<'_>, &Node) -> Option<u64> {
    move |cx, node| {
        let size = node.as_text().and_then(parse_size);
        let within = size.filter(|size| range.contains(size));
        if within.is_none() {
            let (from, to) = (write_size(*range.start()), write_size(*range.end()));
            cx.expected(node, &format!("a size from {from} to {to}, such as 64KiB, 512MiB or 2GiB"));
        }
        within
    }
}

pub(super) fn date(cx: &mut Context<'_>, node: &Node) -> Option<Date> {
    let date = node.as_text().filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
    if date.is_none() {
        cx.expected(node, "a date of the calendar such as 2026-01-31");
    }
    date
}

pub(super) fn time_of_day(cx: &mut Context<'_>, node: &Node) -> Option<Time> {
    let time = node.as_text().and_then(parse_time);
    if time.is_none() {
        cx.expected(node, "a time of day such as \"07:30\"");
    }
    time
}

/// Reads `07:30`; seconds may follow.
pub(super) fn parse_time(text: &str) -> Option<Time> {
    let well_formed = matches!(text.len(), 5 | 8) && text.bytes().all(|b| b.is_ascii_digit() || b == b':');
    text.parse().ok().filter(|_| well_formed)
}

/// A moment: with an offset, or in site time; a date alone is its midnight.
pub(super) fn moment(cx: &mut Context<'_>, node: &Node) -> Option<Timestamp> {
    let found = node.as_text().and_then(|text| {
        let civil = || text.parse::<DateTime>().ok().and_then(|civil| cx.zone.to_timestamp(civil).ok());
        text.parse::<Timestamp>().ok().or_else(civil)
    });
    if found.is_none() {
        cx.expected(node, "a date or a time such as 2026-01-31 or 2026-01-31T08:00");
    }
    found
}

pub(super) fn weekday(cx: &mut Context<'_>, node: &Node) -> Option<Weekday> {
    choice(&WEEKDAYS)(cx, node)
}

pub(super) const WEEKDAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A path, relative to the file; it need not exist.
pub(super) fn path(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let path = text(cx, node)?;
    Some(cx.resolve(&path))
}

/// The path of a directory that can be read.
pub(super) fn directory(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let path = path(cx, node)?;
    match std::fs::read_dir(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            cx.wrong(node, format!("cannot read the directory {}: {}", shown(node), reason(&error)));
            None
        }
    }
}

/// The path of a file that can be read.
pub(super) fn readable_file(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let path = path(cx, node)?;
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => cx.wrong(node, format!("{} is a directory", shown(node))),
        Ok(_) => return Some(path),
        Err(error) => cx.wrong(node, format!("cannot read {}: {}", shown(node), reason(&error))),
    }
    None
}

/// A file of PEM certificates.
pub(super) fn ca_file(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let path = readable_file(cx, node)?;
    let has_certificate =
        std::fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----"));
    if !has_certificate {
        cx.wrong(node, format!("{} holds no PEM certificate (-----BEGIN CERTIFICATE-----)", shown(node)));
        return None;
    }
    Some(path)
}

/// The secret that a file holds, without the newline at its end.
pub(super) fn secret_file(cx: &mut Context<'_>, node: &Node) -> Option<Secret> {
    let path = readable_file(cx, node)?;
    let secret = match std::fs::read_to_string(&path) {
        Ok(secret) => secret,
        Err(error) => {
            cx.wrong(node, format!("cannot read {}: {}", shown(node), reason(&error)));
            return None;
        }
    };
    let secret = secret.strip_suffix('\n').unwrap_or(&secret);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() || secret.len() > MAX_SECRET || secret.contains(char::is_control) {
        cx.wrong(node, format!("{} must hold one line, not empty", shown(node)));
        return None;
    }
    Some(Secret::new(secret))
}

/// The host of a URL, brackets of IPv6 taken off.
pub(super) fn host(url: &url::Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// A part of a URL with %40 and the like decoded; `None` if that gives no text.
pub(super) fn percent_decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        bytes.push(if byte == b'%' {
            let (high, low) = hex(rest.next()).zip(hex(rest.next()))?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// The user of a URL, with %40 and the like decoded.
pub(super) fn username(cx: &mut Context<'_>, node: &Node, url: &url::Url) -> Option<String> {
    let user = url.username();
    if user.is_empty() {
        return None;
    }
    let user = percent_decoded(user);
    if user.is_none() {
        cx.wrong(node, "the user in the URL is not text");
    }
    user
}

fn shown(node: &Node) -> String {
    node.found()
}

/// Reports ids (or names) that occur more than once. `items` are their texts and places.
pub(super) fn unique(cx: &mut Context<'_>, what: &str, items: &[(&str, Place)]) {
    let mut first: std::collections::HashMap<&str, Place> = std::collections::HashMap::new();
    for (text, place) in items {
        if let Some(earlier) = first.get(text) {
            let message = format!("duplicate {what} {}, first given on line {}", quote(text), earlier.line);
            cx.error(*place, message);
        } else {
            first.insert(text, *place);
        }
    }
}

/// The texts and places of one key of every element of a list.
pub(super) fn declared<'n>(list: Option<&'n Node>, key: &str) -> Vec<(&'n str, Place)> {
    let elements = list.and_then(Node::as_sequence).unwrap_or_default();
    elements
        .iter()
        .filter_map(|element| element.get(key))
        .filter_map(|node| node.as_text().map(|text| (text, node.place)))
        .collect()
}
