//! Matchers of labels, as Alertmanager has them: in silences, filters, inhibition and escalation.
//!
//! A label that an alert lacks has the empty value. Patterns are anchored.

use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes a compiled pattern may take.
const PATTERN: usize = 1 << 20;

/// `name="value"`, or with `!=`, `=~`, `!~`.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    value: String,
    /// `!=` or `!~`.
    is_negative: bool,
    /// Of `=~` and `!~`.
    pattern: Option<Regex>,
}

/// What has labels.
pub trait Labelled {
    /// The value of a label; "" if it is not there.
    fn label(&self, name: &str) -> &str;
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, name: &str) -> &str {
        self.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    #[error("{0:?} is not a matcher: name=\"value\", or with !=, =~, !~")]
    Form(String),
    #[error("a matcher names no label")]
    NoName,
    #[error("{0:?} is not a pattern")]
    Pattern(String),
    #[error("the value {0:?} has a double quote that is neither escaped nor around it")]
    Quote(String),
}

impl Matcher {
    /// `name` may be any text, as in Alertmanager since UTF-8 names are allowed.
    pub fn new(name: &str, value: &str, is_negative: bool, is_regex: bool) -> Result<Matcher, MatcherError> {
        if name.is_empty() {
            return Err(MatcherError::NoName);
        }
        let pattern = if is_regex { Some(anchored(value)?) } else { None };
        Ok(Matcher { name: name.to_owned(), value: value.to_owned(), is_negative, pattern })
    }

    /// Reads `name="value"`. The quotes may be left out, around a name that has neither spaces nor the signs of matchers
    /// in it. Within quotes `\n`, `\"` and `\\` are escapes and any other backslash stands for itself, as in Alertmanager
    /// (its `pkg/labels` and `matcher/parse`), so that patterns need no second backslash.
    pub fn parse(text: &str) -> Result<Matcher, MatcherError> {
        let wrong = || MatcherError::Form(text.to_owned());
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner).trim();
        let (name, rest) = match inner.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted).ok_or_else(wrong)?;
                (unescape(&quoted[..end]), &quoted[end + 1..])
            }
            None => {
                let end = inner.find(['=', '!']).ok_or_else(wrong)?;
                let name = inner[..end].trim();
                if name.is_empty() || name.contains(is_reserved) {
                    return Err(wrong());
                }
                (name.to_owned(), &inner[end..])
            }
        };
        let rest = rest.trim_start();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
        let operator = operator.ok_or_else(wrong)?;
        let value = unquote(rest[operator.len()..].trim())?;
        Matcher::new(&name, &value, operator.starts_with('!'), operator.ends_with('~'))
    }

    pub fn matches(&self, labels: &impl Labelled) -> bool {
        let value = labels.label(&self.name);
        let is_match = match &self.pattern {
            Some(pattern) => pattern.is_match(value),
            None => self.value == value,
        };
        is_match != self.is_negative
    }

    /// Whether an alert without any label would match. A silence needs one matcher that does not.
    pub fn matches_empty(&self) -> bool {
        self.matches(&BTreeMap::new())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    pub fn is_regex(&self) -> bool {
        self.pattern.is_some()
    }
}

/// Whether all match.
pub fn all(matchers: &[Matcher], labels: &impl Labelled) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

/// Two are the same if they are written the same.
impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        let key = |matcher: &Matcher| (matcher.is_negative, matcher.pattern.is_some());
        self.name == other.name && self.value == other.value && key(self) == key(other)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match (self.is_negative, self.pattern.is_some()) {
            (false, false) => "=",
            (true, false) => "!=",
            (false, true) => "=~",
            (true, true) => "!~",
        };
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let name = if is_label_name(&self.name) { self.name.clone() } else { quoted(&self.name) };
        write!(f, "{name}{operator}{}", quoted(&self.value))
    }
}

/// Letters, digits and `_`, not first a digit: what every version of Prometheus takes.
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What a name must be quoted for.
fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

/// Where the quote ends that was opened before `text`.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

fn unquote(value: &str) -> Result<String, MatcherError> {
    let wrong = || MatcherError::Quote(value.to_owned());
    let inner = match value.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted).filter(|end| end + 1 == quoted.len()).ok_or_else(wrong)?;
            &quoted[..end]
        }
        None if closing_quote(value).is_some() => return Err(wrong()),
        None => value,
    };
    Ok(unescape(inner))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(quoted @ ('"' | '\\'))) => plain.push(quoted),
            _ => {
                plain.push(c);
                continue;
            }
        }
        chars.next();
    }
    plain
}

/// A pattern that must match all of a text; bounded in size.
pub fn anchored(pattern: &str) -> Result<Regex, MatcherError> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN)
        .build()
        .map_err(|_| MatcherError::Pattern(pattern.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read_match_and_are_written_again() {
        let labels: BTreeMap<String, String> =
            [("agency", "tam-ky"), ("tên xã", "Tiên Phước"), ("q", "a\"b")].map(|(n, v)| (n.into(), v.into())).into();
        let rows = [
            ("agency=tam-ky", true, "agency=\"tam-ky\""),
            ("{agency=\"tam-ky\"}", true, "agency=\"tam-ky\""),
            ("agency != tam-ky", false, "agency!=\"tam-ky\""),
            ("agency=~\"tam\"", false, "agency=~\"tam\""),
            ("agency=~\"tam.*|x\"", true, "agency=~\"tam.*|x\""),
            ("agency!~x", true, "agency!~\"x\""),
            ("\"tên xã\"=\"Tiên Phước\"", true, "\"tên xã\"=\"Tiên Phước\""),
            ("q=\"a\\\"b\"", true, "q=\"a\\\"b\""),
            ("absent=\"\"", true, "absent=\"\""),
            ("tên=x", false, "\"tên\"=\"x\""),
            ("9a!=b", true, "\"9a\"!=\"b\""),
            (r#"agency=~"t\w+\-ky""#, true, r#"agency=~"t\\w+\\-ky""#),
            (r#"agency=~"t\\w+-ky""#, true, r#"agency=~"t\\w+-ky""#),
            (r#"q=a\"b"#, true, r#"q="a\"b""#),
            (r#"q!="a\nb\\""#, true, r#"q!="a\nb\\""#),
            ("q!=a\\", true, r#"q!="a\\""#),
        ];
        for (text, expected, written) in rows {
            let matcher = Matcher::parse(text).unwrap();
            assert_eq!(matcher.matches(&labels), expected, "{text}");
            assert_eq!(matcher.to_string(), written, "{text}");
            assert_eq!(Matcher::parse(written), Ok(matcher), "{text}");
        }
        for text in
            ["agency", "=x", "a b=x", "a=~(", "tên xã=x", "\"\"=x", "\"a=x", "a=\"x", "a=x\"", "a=x\"y", "a=\"x\"y"]
        {
            assert!(Matcher::parse(text).is_err(), "{text}");
        }
    }
}
