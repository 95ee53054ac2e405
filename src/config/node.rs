//! A YAML document with positions: what configuration, calendar and rule files are read into before they are decoded.
//!
//! Every key and value keeps its line and column, and every scalar its text as written, so that a decoder can say where
//! and what is wrong. Nothing here knows which keys exist.

use super::Problems;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Spanned};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// A file longer than this (in bytes) is refused.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A value of the document and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
    /// YAML reads it as a number or a boolean: a plain scalar such as 5 or true, not "5".
    pub is_literal: bool,
}

/// Where something begins; both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// Text, number or boolean: which of them is for the decoder to say. Plain scalars as written.
    Scalar(String),
    Sequence(Vec<Node>),
    /// In the order of the file, without duplicates.
    Mapping(Vec<Entry>),
    /// Was reported already; decoders pass over it in silence.
    Invalid,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Of the key.
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// Reads a YAML file of at most [`MAX_FILE`] bytes. What is wrong goes to `problems`.
    pub fn read_file(file: &Path, problems: &mut Problems) -> Option<Node> {
        let text = read_text(file, problems)?;
        Node::read(file, &text, problems)
    }

    /// Reads one YAML document. A syntax error gives one problem and `None`; each duplicate key gives a problem and is
    /// left out. An empty document is [`Value::Null`]. `file` only names the problems.
    pub fn read(file: &Path, text: &str, problems: &mut Problems) -> Option<Node> {
        // A byte order mark is no content; positions count without it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let start = Place { line: 1, column: 1 };
        if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) && !text.contains('\t')
        {
            return Some(Node { value: Value::Null, place: start, is_literal: false });
        }
        match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
            Ok(raw) => Some(Builder { file, text, problems }.node(raw)),
            Err(error) => {
                let (place, message) = describe(&error);
                problems.add(file, place.line, place.column, message);
                None
            }
        }
    }

    /// For messages: what was found.
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(text) => quote(&mask(text)),
            Value::Sequence(nodes) if nodes.is_empty() => "an empty list".to_owned(),
            Value::Mapping(entries) if entries.is_empty() => "an empty mapping".to_owned(),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Invalid => "an invalid value".to_owned(),
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The text of a scalar, as written.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(nodes) => Some(nodes),
            _ => None,
        }
    }

    pub fn as_mapping(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Records a problem at this node.
    pub fn problem(&self, file: &Path, problems: &mut Problems, message: impl Into<String>) {
        problems.add(file, self.place.line, self.place.column, message);
    }

    /// Changes every scalar value (not the keys); `None` makes it [`Value::Invalid`].
    pub fn map_scalars(&mut self, change: &mut dyn FnMut(&str, Place) -> Option<String>) {
        match &mut self.value {
            Value::Scalar(text) => match change(text, self.place) {
                Some(changed) => *text = changed,
                None => self.value = Value::Invalid,
            },
            Value::Sequence(nodes) => nodes.iter_mut().for_each(|node| node.map_scalars(change)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.value.map_scalars(change)),
            Value::Null | Value::Invalid => {}
        }
    }
}

/// Hides the password of a URL: a message may end up in a log.
fn mask(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let (user_info, host) = rest.rsplit_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

/// `"text"`, shortened so that a message stays readable, without control characters.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Reads a text file of at most [`MAX_FILE`] bytes.
pub fn read_text(file: &Path, problems: &mut Problems) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|open| {
        if open.metadata()?.is_dir() {
            return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
        }
        open.take(MAX_FILE + 1).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        problems.add(file, 0, 0, format!("cannot read the file: {}", reason(&error)));
        return None;
    }
    if bytes.len() as u64 > MAX_FILE {
        problems.add(file, 0, 0, format!("the file is too long: at most {} MiB are read", MAX_FILE >> 20));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            problems.add(file, small(line as u64), small(column as u64), "not UTF-8 text; save the file as UTF-8");
            None
        }
    }
}

/// An I/O error in words that do not differ between systems.
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound => "it does not exist".to_owned(),
        PermissionDenied => "permission denied".to_owned(),
        IsADirectory => "it is a directory".to_owned(),
        NotADirectory => "a part of its path is not a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // The parser's own limits, stated here because they are what stands between a hostile file and our memory.
        budget: serde_saphyr::budget! { max_depth: 64, max_nodes: 250_000, max_documents: 1 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place(location: Location) -> Place {
    Place { line: small(location.line()), column: small(location.column()) }
}

/// The parser's error as our place and message.
fn describe(error: &Error) -> (Place, String) {
    let location = error.location().map_or(Place { line: 0, column: 0 }, place);
    let full = error.without_snippet().to_string();
    // The parser appends its own "at line 1, column 2"; the place stands in front already.
    let text = [" at line ", " (line "].iter().find_map(|mark| full.split_once(mark)).map_or(full.as_str(), |(t, _)| t);
    let text = match text.lines().next().unwrap_or(text).trim() {
        text if text.contains("Documents {") => "more than one document (---) in the file",
        text if text.starts_with("budget breached") || text.contains("limit exceeded") => {
            "too many or too deeply nested values, or aliases that multiply"
        }
        text => text,
    };
    (location, format!("not valid YAML: {text}"))
}

/// A value as the parser hands it over. Numbers and booleans carry nothing: their text is cut from the source.
enum Raw {
    Null,
    Text(String),
    Plain,
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Raw::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}

/// Turns the parser's values into nodes and reports keys that cannot be.
struct Builder<'a> {
    file: &'a Path,
    text: &'a str,
    problems: &'a mut Problems,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let place = place(raw.referenced);
        let is_literal = matches!(raw.value, Raw::Plain);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar(text),
            Raw::Plain => Value::Scalar(self.source(raw.defined)),
            Raw::Sequence(nodes) => Value::Sequence(nodes.into_iter().map(|node| self.node(node)).collect()),
            Raw::Mapping(entries) => self.mapping(entries),
        };
        Node { value, place, is_literal }
    }

    fn mapping(&mut self, raw: Vec<(Spanned<Raw>, Spanned<Raw>)>) -> Value {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut entries = Vec::with_capacity(raw.len());
        for (raw_key, raw_value) in raw {
            let key = self.node(raw_key);
            let value = self.node(raw_value);
            let Some(text) = key.as_text() else {
                key.problem(self.file, self.problems, format!("found {} as a key, expected text", key.found()));
                continue;
            };
            if let Some(first) = seen.get(text) {
                let message = format!("duplicate key {}, first given on line {first}", quote(text));
                key.problem(self.file, self.problems, message);
                continue;
            }
            seen.insert(text.to_owned(), key.place.line);
            entries.push(Entry { key: text.to_owned(), place: key.place, value });
        }
        Value::Mapping(entries)
    }

    /// A plain scalar's text as written.
    fn source(&self, location: Location) -> String {
        let span = location.span();
        let slice = span.byte_offset().zip(span.byte_len()).and_then(|(offset, length)| {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            self.text.get(start..end)
        });
        slice.unwrap_or_default().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut problems = Problems::default();
        let node = Node::read(Path::new("a.yml"), text, &mut problems);
        (node, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    fn scalar(text: &str) -> String {
        let (node, problems) = read(&format!("key: {text}"));
        assert!(problems.is_empty(), "{text}: {problems:?}");
        node.unwrap().get("key").unwrap().as_text().map_or("-".to_owned(), str::to_owned)
    }

    #[test]
    fn scalars_keep_their_text_as_written() {
        for text in ["20335", "020335", "1_000", "0x1F", "1.50", "1e3", "true", "Yes", "07:30", "3.1.1", ".inf", "-1"] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(scalar("\"20335\" # quoted"), "20335");
        assert_eq!(scalar("12 # a comment"), "12");
        assert_eq!(scalar("2026-01-05T08:00"), "2026-01-05T08:00");
        assert_eq!(scalar(""), "-");
        assert_eq!(scalar("~"), "-");
        assert_eq!(scalar("\"\""), "");
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let (node, _) = read("tên: Đà Nẵng\nb:\n  - {x: 1, y: [2]}\n");
        let node = node.unwrap();
        assert_eq!(node.get("tên").unwrap().place, Place { line: 1, column: 6 });
        let first = &node.get("b").unwrap().as_sequence().unwrap()[0];
        assert_eq!(first.as_mapping().unwrap()[1].place, Place { line: 3, column: 12 });
        assert_eq!(first.get("y").unwrap().as_sequence().unwrap()[0].place, Place { line: 3, column: 16 });
    }

    #[test]
    fn numbers_through_an_alias_keep_their_text() {
        let (node, problems) = read("a: &x 10\nb: *x\n");
        assert!(problems.is_empty());
        assert_eq!(node.unwrap().get("b").unwrap().as_text(), Some("10"));
    }

    #[test]
    fn duplicate_and_strange_keys_are_reported_and_left_out() {
        let (node, problems) = read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n[x]: 1\n");
        assert_eq!(node.unwrap().as_mapping().unwrap().len(), 2);
        assert_eq!(
            problems,
            [
                "a.yml:4:3: error: duplicate key \"c\", first given on line 3",
                "a.yml:5:1: error: duplicate key \"a\", first given on line 1",
                "a.yml:6:1: error: found a list as a key, expected text",
            ]
        );
    }

    #[test]
    fn empty_files_are_null_and_a_byte_order_mark_is_skipped() {
        for text in ["", "\n\n", "# only a comment\n", "\u{feff}"] {
            assert!(read(text).0.unwrap().is_null(), "{text:?}");
        }
        let (node, _) = read("\u{feff}a: 1");
        assert_eq!(node.unwrap().as_mapping().unwrap()[0].place, Place { line: 1, column: 1 });
    }

    #[test]
    fn bombs_and_broken_syntax_give_one_problem() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let previous = level - 1;
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{previous}"); 9].join(","));
        }
        for text in [bomb.as_str(), &"[".repeat(100_000), "a: [1", "a:\n\t- b", "a: 1\n---\nb: 2\n", "%", "a: *b"] {
            let (node, problems) = read(text);
            assert!(node.is_none());
            assert_eq!(problems.len(), 1);
        }
    }
}
