//! The functions of templates: those of Go's text/template and those that Prometheus adds.

use super::value::{Sample, Value};
use super::{Context, humanize, printf, time};
use regex::Regex;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Functions that exist in Go or Prometheus and not here. `tmpl` is Prometheus's consoles' alone.
const UNSUPPORTED: [&str; 4] = ["tmpl", "call", "slice", "js"];
/// The compiled size of a pattern given to `match` and `reReplaceAll`, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal $most:expr;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function { $($variant),* }

        impl Function {
            /// Name, least and greatest number of arguments.
            const ALL: &'static [(Function, &'static str, usize, usize)] =
                &[$((Function::$variant, $name, $least, $most)),*];
        }
    };
}

functions! {
    And "and" 1 usize::MAX;
    Or "or" 1 usize::MAX;
    Not "not" 1 1;
    Eq "eq" 2 usize::MAX;
    Ne "ne" 2 2;
    Lt "lt" 2 2;
    Le "le" 2 2;
    Gt "gt" 2 2;
    Ge "ge" 2 2;
    Len "len" 1 1;
    Index "index" 1 usize::MAX;
    Print "print" 0 usize::MAX;
    Println "println" 0 usize::MAX;
    Printf "printf" 1 usize::MAX;
    Html "html" 1 usize::MAX;
    UrlQuery "urlquery" 1 usize::MAX;
    SafeHtml "safeHtml" 1 1;
    Query "query" 1 1;
    First "first" 1 1;
    Label "label" 2 2;
    SampleValue "value" 1 1;
    StrValue "strvalue" 1 1;
    SortByLabel "sortByLabel" 2 2;
    Args "args" 0 usize::MAX;
    ReReplaceAll "reReplaceAll" 3 3;
    Match "match" 2 2;
    Title "title" 1 1;
    ToUpper "toUpper" 1 1;
    ToLower "toLower" 1 1;
    StripPort "stripPort" 1 1;
    StripDomain "stripDomain" 1 1;
    Humanize "humanize" 1 1;
    Humanize1024 "humanize1024" 1 1;
    HumanizeDuration "humanizeDuration" 1 1;
    HumanizePercentage "humanizePercentage" 1 1;
    HumanizeTimestamp "humanizeTimestamp" 1 1;
    ParseDuration "parseDuration" 1 1;
    ToTime "toTime" 1 1;
    ToDuration "toDuration" 1 1;
    Now "now" 0 0;
    GraphLink "graphLink" 1 1;
    TableLink "tableLink" 1 1;
    PathPrefix "pathPrefix" 0 0;
    ExternalUrl "externalURL" 0 0;
}

impl Function {
    pub fn find(name: &str) -> Result<Function, String> {
        if let Some((function, ..)) = Function::ALL.iter().find(|(_, known, ..)| *known == name) {
            return Ok(*function);
        }
        if UNSUPPORTED.contains(&name) {
            return Err(format!("the function {name} is not supported"));
        }
        let nearest = super::nearest(name, Function::ALL.iter().map(|(_, known, ..)| *known));
        Err(format!("unknown function {name}{}", nearest.map_or(String::new(), |near| format!("; nearest: {near}"))))
    }

    fn name(self) -> &'static str {
        Function::ALL.iter().find(|(function, ..)| *function == self).map_or("", |(_, name, ..)| name)
    }

    pub fn check_count(self, n_arguments: usize) -> Result<(), String> {
        let Some((_, name, least, most)) = Function::ALL.iter().find(|(function, ..)| *function == self) else {
            return Ok(());
        };
        if n_arguments < *least || n_arguments > *most {
            let most = if *most == usize::MAX { "more".to_owned() } else { most.to_string() };
            return Err(format!("{name} takes {least} to {most} arguments, not {n_arguments}"));
        }
        Ok(())
    }

    pub fn call(self, arguments: Vec<Value>, context: &Context<'_>) -> Result<Value, String> {
        self.check_count(arguments.len())?;
        let text = |at: usize| arguments.get(at).map_or(String::new(), Value::to_text);
        let string = |at: usize| match arguments.get(at) {
            Some(Value::Text(text)) => Ok(text.as_str()),
            Some(other) => Err(format!("{}: a string is needed, not {}", self.name(), other.type_name())),
            None => Err(format!("{}: an argument is missing", self.name())),
        };
        let float = || arguments.first().map_or(Err("an argument is missing".to_owned()), to_float);
        Ok(match self {
            // Reached only when no operand decided: the last one is the result.
            Function::And | Function::Or => arguments.last().cloned().unwrap_or(Value::Nil),
            Function::Not => Value::Bool(!arguments[0].is_true()),
            Function::Eq => {
                let mut equal = false;
                for other in &arguments[1..] {
                    equal |= compare(&arguments[0], other)? == Some(Ordering::Equal);
                }
                Value::Bool(equal)
            }
            Function::Ne => Value::Bool(compare(&arguments[0], &arguments[1])? != Some(Ordering::Equal)),
            Function::Lt => Value::Bool(compare(&arguments[0], &arguments[1])? == Some(Ordering::Less)),
            Function::Gt => Value::Bool(compare(&arguments[0], &arguments[1])? == Some(Ordering::Greater)),
            Function::Le => Value::Bool(compare(&arguments[0], &arguments[1])?.is_some_and(Ordering::is_le)),
            Function::Ge => Value::Bool(compare(&arguments[0], &arguments[1])?.is_some_and(Ordering::is_ge)),
            Function::Len => Value::Int(length(&arguments[0])?),
            Function::Index => index(&arguments)?,
            Function::Print => Value::Text(print(&arguments, false)),
            Function::Println => Value::Text(print(&arguments, true) + "\n"),
            Function::Printf => Value::Text(printf::sprintf(string(0)?, &arguments[1..])),
            Function::Html => Value::Text(html(&print(&arguments, false))),
            Function::UrlQuery => Value::Text(url_query(&print(&arguments, false))),
            Function::SafeHtml => Value::Text(text(0)),
            Function::Query => Value::List((context.query)(string(0)?)?.into_iter().map(Value::Sample).collect()),
            Function::First => list(&arguments[0])?.first().cloned().ok_or("first: the vector has no elements")?,
            Function::Label => Value::Text(sample(&arguments[1])?.labels.get(string(0)?).to_owned()),
            Function::SampleValue => Value::Float(sample(&arguments[0])?.value),
            Function::StrValue => Value::Text(sample(&arguments[0])?.labels.get("__value__").to_owned()),
            Function::SortByLabel => sort_by_label(string(0)?, &arguments[1])?,
            Function::Args => {
                let numbered = arguments.into_iter().enumerate();
                Value::Map(numbered.map(|(at, value)| (format!("arg{at}"), value)).collect::<BTreeMap<_, _>>())
            }
            Function::ReReplaceAll => {
                Value::Text(pattern(string(0)?)?.replace_all(string(2)?, string(1)?).into_owned())
            }
            Function::Match => Value::Bool(pattern(string(0)?)?.is_match(string(1)?)),
            Function::Title => Value::Text(title(string(0)?)),
            Function::ToUpper => Value::Text(string(0)?.to_uppercase()),
            Function::ToLower => Value::Text(string(0)?.to_lowercase()),
            Function::StripPort => Value::Text(split_port(string(0)?).0.to_owned()),
            Function::StripDomain => Value::Text(strip_domain(string(0)?)),
            Function::Humanize => Value::Text(humanize::humanize(float()?)),
            Function::Humanize1024 => Value::Text(humanize::humanize1024(float()?)),
            Function::HumanizeDuration => Value::Text(humanize::duration(float()?)),
            Function::HumanizePercentage => Value::Text(humanize::percentage(float()?)),
            Function::HumanizeTimestamp => Value::Text(humanize::timestamp(float()?)?),
            Function::ParseDuration => Value::Float(
                crate::rules::parse_duration(string(0)?).map(|length| length.as_secs_f64()).ok_or("not a duration")?,
            ),
            Function::ToTime => Value::Time(time::from_unix(float()?)?),
            Function::ToDuration => Value::Duration(time::from_seconds(float()?)?),
            Function::Now => Value::Float(context.now.as_millisecond() as f64 / 1_000.0),
            Function::GraphLink => Value::Text(format!("/graph?g0.expr={}&g0.tab=0", url_query(string(0)?))),
            Function::TableLink => Value::Text(format!("/graph?g0.expr={}&g0.tab=1", url_query(string(0)?))),
            Function::PathPrefix => Value::Text(
                url::Url::parse(context.external_url)
                    .map_or(String::new(), |url| url.path().trim_end_matches('/').to_owned()),
            ),
            Function::ExternalUrl => Value::Text(context.external_url.to_owned()),
        })
    }
}

fn to_float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Text(text) => text.trim().parse().map_err(|_| format!("{text:?} is not a number")),
        other => Err(format!("a number is needed, not {}", other.type_name())),
    }
}

/// Numbers compare as numbers, whether whole or not: Go refuses to, and every author of a rule stumbles over it.
fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        (Value::Bool(left), Value::Bool(right)) => Ok(Some(left.cmp(right))),
        (Value::Int(left), Value::Int(right)) => Ok(Some(left.cmp(right))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(to_float(left)?.partial_cmp(&to_float(right)?))
        }
        (Value::Nil, Value::Nil) => Ok(Some(Ordering::Equal)),
        (Value::Nil, _) | (_, Value::Nil) => Ok(None),
        _ => Err(format!("{} and {} cannot be compared", left.type_name(), right.type_name())),
    }
}

fn length(value: &Value) -> Result<i64, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Labels(labels) => labels.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("len: a {} has no length", other.type_name())),
    };
    Ok(length as i64)
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for key in &arguments[1..] {
        value = match (&value, key) {
            (Value::List(list), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| list.get(at));
                found.cloned().ok_or_else(|| format!("index: {at} is out of range"))?
            }
            (Value::Labels(labels), Value::Text(name)) => Value::Text(labels.get(name).to_owned()),
            (Value::Map(map), Value::Text(name)) => map.get(name).cloned().unwrap_or(Value::Nil),
            _ => return Err(format!("index: a {} has no index {}", value.type_name(), key.type_name())),
        };
    }
    Ok(value)
}

/// Go's `Sprint` puts spaces only between operands of which neither is a string, `Sprintln` everywhere.
fn print(arguments: &[Value], always_space: bool) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && (always_space || !is_text(value) && !is_text(&arguments[at - 1])) {
            out.push(' ');
        }
        value.print(&mut out);
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(format!("a vector is needed, not {}", other.type_name())),
    }
}

fn sample(value: &Value) -> Result<&Sample, String> {
    match value {
        Value::Sample(sample) => Ok(sample),
        other => Err(format!("an element of a vector is needed, not {}", other.type_name())),
    }
}

fn sort_by_label(name: &str, value: &Value) -> Result<Value, String> {
    let mut sorted = list(value)?.to_vec();
    let key = |value: &Value| sample(value).ok().map(|sample| sample.labels.get(name).to_owned());
    sorted.sort_by_key(key);
    Ok(Value::List(sorted))
}

fn pattern(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build().map_err(|_| format!("{text:?} is not a pattern"))
}

/// The first letter of every word in upper case, the rest as it is.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        let letter = c.is_alphanumeric() || c == '_' || c == '\'';
        if letter && !in_word {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        in_word = letter;
    }
    out
}

/// Host and `:port`, if there is a port.
fn split_port(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
            (&host[1..host.len() - 1], &text[text.len() - port.len() - 1..])
        }
        Some((host, port)) if !host.contains(':') => (host, &text[text.len() - port.len() - 1..]),
        _ => (text, ""),
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_port(text);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    format!("{}{port}", host.split('.').next().unwrap_or(host))
}
