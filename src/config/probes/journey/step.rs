//! One step of a journey: a request, what its answer must be, and what later steps need of it.
//!
//! Past 500 lines because a step's keys are read in one place, each with its own reasons to be refused.

use super::Scope;
use super::selector::Selector;
use super::template::{SECRET_PREFIX, Template, TemplateError, is_name};
use crate::config::decode::{self, Context, MINUTE, SECOND, Section, nearest};
use crate::config::environment::Piece;
use crate::config::node::{Node, Value, quote};
use axum::http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

/// Bodies are held in memory while they are judged, one for each journey that runs.
const MAX_BODY: u64 = 16 << 20;
/// Read of a body, in bytes, unless the file says otherwise.
const DEFAULT_MAX_BODY: u64 = 1 << 20;
const DEFAULT_MAX_REDIRECTS: u8 = 5;

#[derive(Debug, Clone)]
pub struct Step {
    /// Unique within the journey; the metric label `step`.
    pub name: String,
    pub method: Method,
    /// An http or https URL, or one that begins with a capture: a link of an earlier answer.
    pub url: Template,
    /// Of a URL that does not begin with a capture.
    pub(super) origin: Option<String>,
    pub body: Body,
    pub headers: Vec<(HeaderName, Template)>,
    /// Acceptable status codes. Default: 200 to 299.
    pub status: Vec<u16>,
    pub body_contains: Option<Template>,
    pub body_not_contains: Option<Template>,
    pub json_path: Vec<JsonExpectation>,
    /// Headers that the answer must have, each with a value that the expression finds.
    pub header_matches: Vec<(HeaderName, regex::Regex)>,
    pub captures: Vec<Capture>,
    /// Waited before the request; no part of any measurement. Default 0.
    pub think: Duration,
    /// Of this step alone. Default: what is left of the service's timeout.
    pub timeout: Option<Duration>,
    /// A step that takes longer makes the journey `slow` (and still up).
    pub slow_after: Option<Duration>,
    /// In bytes; what is longer is not read further. Default 1 MiB.
    pub max_body: u64,
    /// Default 5; 0 does not follow.
    pub max_redirects: u8,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Body {
    None,
    /// As a browser sends a form.
    Form(Vec<(String, Template)>),
    Json(Json),
}

/// A JSON value with templates for its texts.
#[derive(Debug, Clone)]
pub enum Json {
    /// `null`, a number or a boolean.
    Fixed(serde_json::Value),
    Text(Template),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The scalar at a JSON pointer is this text, number or boolean.
#[derive(Debug, Clone)]
pub struct JsonExpectation {
    pub pointer: String,
    pub value: Template,
}

/// A value of the answer that later steps may use as `{{name}}`.
#[derive(Debug, Clone)]
pub struct Capture {
    pub name: String,
    pub source: Source,
}

/// Where a capture comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A JSON pointer into the body.
    Json(String),
    /// The first group, or all of the match, in the body.
    Regex(regex::Regex),
    /// The text of the first element, or one attribute of it.
    Css { selector: Selector, attribute: Option<String> },
    /// A header of the answer.
    Header(HeaderName),
}

const METHODS: [(&str, Method); 6] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("patch", Method::PATCH),
    ("delete", Method::DELETE),
    ("head", Method::HEAD),
];

impl Step {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node, scope: &mut Scope<'_>) -> Option<Step> {
        const KEYS: &[&str] = &[
            "name",
            "form",
            "json",
            "headers",
            "status",
            "body_contains",
            "body_not_contains",
            "json_path",
            "header_matches",
            "capture",
            "think",
            "timeout",
            "slow_after",
            "max_body",
            "max_redirects",
        ];
        let keys = [KEYS, &METHODS.each_ref().map(|(key, _)| *key)].concat();
        let section = Section::open(cx, node, "step", &keys, &[])?;
        let name = section.required(cx, "name", step_name);
        let (method, url) = method(cx, &section, scope).unzip();
        let body = body(cx, &section, scope, method.as_ref());
        let headers = section.optional(cx, "headers", |cx, node| headers(cx, node, scope)).unwrap_or_default();
        let status = section.optional(cx, "status", decode::list(decode::integer(100..=599))).unwrap_or_default();
        let body_contains = section.optional(cx, "body_contains", |cx, node| template(cx, node, scope));
        let body_not_contains = section.optional(cx, "body_not_contains", |cx, node| template(cx, node, scope));
        let json_path = section.optional(cx, "json_path", |cx, node| json_path(cx, node, scope)).unwrap_or_default();
        let header_matches = section.optional(cx, "header_matches", header_matches).unwrap_or_default();
        let captures = section.optional(cx, "capture", captures).unwrap_or_default();
        let think = section.optional(cx, "think", decode::duration(Duration::ZERO..=5 * MINUTE)).unwrap_or_default();
        let timeout = section.optional(cx, "timeout", |cx, node| own_timeout(cx, node, scope.timeout));
        let slow_after =
            section.optional(cx, "slow_after", super::probes::slow_after(timeout.unwrap_or(scope.timeout)));
        let max_body = section.optional(cx, "max_body", decode::size(1..=MAX_BODY)).unwrap_or(DEFAULT_MAX_BODY);
        let max_redirects = section.optional(cx, "max_redirects", decode::integer(0..=20));
        let reads_body = body_contains.is_some() || body_not_contains.is_some() || !json_path.is_empty();
        let takes_body = captures.iter().any(|capture| !matches!(capture.source, Source::Header(_)));
        if method == Some(Method::HEAD) && (reads_body || takes_body) {
            cx.error(node.place, "step: the answer to HEAD has no body to look into; use get");
        }
        scope.captures.extend(captures.iter().map(|capture| capture.name.clone()));
        let (url, origin) = url?;
        Some(Step {
            name: name?,
            method: method?,
            url,
            origin,
            body: body?,
            headers,
            status: match status.is_empty() {
                true => (200..=299).collect(),
                false => status.into_iter().filter_map(|code| u16::try_from(code).ok()).collect(),
            },
            body_contains,
            body_not_contains,
            json_path,
            header_matches,
            captures,
            think,
            timeout,
            slow_after,
            max_body,
            max_redirects: max_redirects.and_then(|max| u8::try_from(max).ok()).unwrap_or(DEFAULT_MAX_REDIRECTS),
        })
    }

    /// The captures that its request needs.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let body: Vec<&Template> = match &self.body {
            Body::None => Vec::new(),
            Body::Form(fields) => fields.iter().map(|(_, value)| value).collect(),
            Body::Json(json) => json.templates(),
        };
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url).chain(headers).chain(body).flat_map(Template::captures)
    }
}

impl Json {
    /// The texts in it.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Json::Fixed(_) => Vec::new(),
            Json::Text(template) => vec![template],
            Json::List(items) => items.iter().flat_map(Json::templates).collect(),
            Json::Object(members) => members.iter().flat_map(|(_, value)| value.templates()).collect(),
        }
    }
}

fn step_name(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    if cx.expanded.contains_key(&node.place) {
        cx.wrong(node, "a step's name is shown everywhere: nothing of the environment stands in it");
        return None;
    }
    let name = decode::name(cx, node)?;
    if name.chars().count() > 60 {
        cx.wrong(node, format!("found {}, expected at most 60 characters", quote(&name)));
        return None;
    }
    Some(name)
}

type Address = (Template, Option<String>);

fn method(cx: &mut Context<'_>, section: &Section<'_>, scope: &Scope<'_>) -> Option<(Method, Address)> {
    let given: Vec<&(&str, Method)> = METHODS.iter().filter(|(key, _)| section.get(key).is_some()).collect();
    let &[(key, method)] = given.as_slice() else {
        let keys = METHODS.each_ref().map(|(key, _)| *key).join(", ");
        let found: Vec<&str> = given.iter().map(|(key, _)| *key).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
        cx.error(section.place, format!("step: exactly one of {keys} is wanted, found {found}"));
        return None;
    };
    let address = section.optional(cx, key, |cx, node| address(cx, node, scope))?;
    Some((method.clone(), address))
}

/// A URL whose host is written out, or one that an earlier answer gave.
fn address(cx: &mut Context<'_>, node: &Node, scope: &Scope<'_>) -> Option<Address> {
    let url = template(cx, node, scope)?;
    if url.begins_with_capture() {
        return Some((url, None));
    }
    let filled = |value: &'static str| {
        let text = url.fill(&|_| Some(value), &|_| Some(value.to_owned())).ok()?;
        url::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    let (Some(one), Some(other)) = (filled("1"), filled("2")) else {
        cx.expected(node, "an http:// or https:// URL with a host, or {{name}} for a link that was captured");
        return None;
    };
    if one.origin() != other.origin() || one.username() != other.username() {
        cx.wrong(node, "{{…}} does not stand in the scheme, host or port of a URL");
        return None;
    }
    if !one.username().is_empty() || one.password().is_some() {
        cx.wrong(
            node,
            "user and password do not stand in a URL: use headers: {Authorization: \"Basic ${PROBE_BASIC}\"}",
        );
        return None;
    }
    Some((url, Some(one.origin().ascii_serialization())))
}

fn body(cx: &mut Context<'_>, section: &Section<'_>, scope: &Scope<'_>, method: Option<&Method>) -> Option<Body> {
    let given = [section.get("form"), section.get("json")].into_iter().flatten().count();
    if given == 2 {
        cx.error(section.place, "step: form and json exclude each other");
    }
    if given > 0 && matches!(method, Some(&Method::GET | &Method::HEAD)) {
        cx.error(section.place, "step: get and head send no form or json; use post, or write the query into the URL");
    }
    if section.get("form").is_some() {
        let fields = section.optional(cx, "form", |cx, node| {
            pairs(cx, node, "a mapping of field names and values", |cx, entry| {
                let value =
                    if entry.value.is_null() { Some(Template::default()) } else { template(cx, &entry.value, scope) };
                Some((entry.key.clone(), value?))
            })
        });
        return fields.map(Body::Form);
    }
    match section.get("json") {
        Some(_) => section.optional(cx, "json", |cx, node| json(cx, node, scope)).map(Body::Json),
        None => Some(Body::None),
    }
}

fn json(cx: &mut Context<'_>, node: &Node, scope: &Scope<'_>) -> Option<Json> {
    match &node.value {
        Value::Null => Some(Json::Fixed(serde_json::Value::Null)),
        Value::Scalar(text) if node.is_literal && !cx.expanded.contains_key(&node.place) => {
            // 0x10 and the like are numbers of YAML but not of JSON: they are sent as text.
            let fixed = serde_json::from_str(text).ok();
            Some(fixed.map_or_else(|| plain(text).map(Json::Text), |value| Some(Json::Fixed(value)))?)
        }
        // An empty text is a text.
        Value::Scalar(text) if text.is_empty() => Some(Json::Text(Template::default())),
        Value::Scalar(_) => template(cx, node, scope).map(Json::Text),
        Value::Sequence(nodes) => {
            let items: Vec<Option<Json>> = nodes.iter().map(|node| json(cx, node, scope)).collect();
            items.into_iter().collect::<Option<_>>().map(Json::List)
        }
        Value::Mapping(entries) => {
            let members: Vec<Option<(String, Json)>> =
                entries.iter().map(|entry| Some((entry.key.clone(), json(cx, &entry.value, scope)?))).collect();
            members.into_iter().collect::<Option<_>>().map(Json::Object)
        }
        Value::Invalid => None,
    }
}

fn plain(text: &str) -> Option<Template> {
    let mut template = Template::default();
    template.push(text, &Default::default()).ok()?;
    Some(template)
}

/// Each entry of a mapping.
fn pairs<T>(
    cx: &mut Context<'_>,
    node: &Node,
    what: &str,
    mut read: impl FnMut(&mut Context<'_>, &crate::config::node::Entry) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, what);
        return None;
    };
    Some(entries.iter().filter_map(|entry| read(cx, entry)).collect())
}

fn header_name(cx: &mut Context<'_>, place: &crate::config::node::Entry) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(place.key.as_bytes()).ok();
    if name.is_none() {
        cx.error(place.place, format!("headers: {} is no header name", quote(&place.key)));
    }
    name
}

fn headers(cx: &mut Context<'_>, node: &Node, scope: &Scope<'_>) -> Option<Vec<(HeaderName, Template)>> {
    /// What the connection and the body decide, not the configuration.
    const OURS: [&str; 6] = ["connection", "content-length", "transfer-encoding", "accept-encoding", "upgrade", "te"];
    pairs(cx, node, "a mapping of header names and values", |cx, entry| {
        let name = header_name(cx, entry)?;
        if OURS.contains(&name.as_str()) {
            cx.error(entry.place, format!("headers: {} is set by ioc-watch itself", quote(&entry.key)));
            return None;
        }
        let value = template(cx, &entry.value, scope)?;
        let sound = value.fill(&|_| Some("1"), &|value| Some(value.to_owned()));
        if sound.is_ok_and(|text| HeaderValue::from_str(&text).is_err()) {
            // The value may be a secret: it is not repeated.
            cx.wrong(
                &entry.value,
                format!("the value of {} has characters that no header can have", quote(&entry.key)),
            );
            return None;
        }
        Some((name, value))
    })
}

fn json_path(cx: &mut Context<'_>, node: &Node, scope: &Scope<'_>) -> Option<Vec<JsonExpectation>> {
    pairs(cx, node, "a mapping such as {\"/status\": ok}", |cx, entry| {
        if !is_pointer(&entry.key) {
            cx.error(
                entry.place,
                format!("json_path: found {}, expected a JSON pointer such as \"/status\"", quote(&entry.key)),
            );
            return None;
        }
        Some(JsonExpectation { pointer: entry.key.clone(), value: template(cx, &entry.value, scope)? })
    })
}

/// RFC 6901: empty, or begins with a slash.
fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

fn header_matches(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(HeaderName, regex::Regex)>> {
    pairs(cx, node, "a mapping of header names and regular expressions", |cx, entry| {
        Some((header_name(cx, entry)?, expression(cx, &entry.value)?))
    })
}

/// Text that stands in the file itself: parsed types print what they were parsed from.
fn from_file(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    if cx.expanded.contains_key(&node.place) {
        cx.wrong(node, "nothing of the environment stands in an expression or selector");
        return None;
    }
    decode::text(cx, node)
}

/// A regular expression.
pub(in crate::config) fn expression(cx: &mut Context<'_>, node: &Node) -> Option<regex::Regex> {
    let text = from_file(cx, node)?;
    match regex::RegexBuilder::new(&text).size_limit(1 << 20).build() {
        Ok(expression) => Some(expression),
        Err(error) => {
            let error = error.to_string();
            let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            cx.wrong(node, format!("not a usable regular expression: {cause}"));
            None
        }
    }
}

fn captures(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Capture>> {
    pairs(cx, node, "a mapping such as {code: /maHoSo}", |cx, entry| {
        if !is_name(&entry.key) {
            let message = format!("capture: found {}, expected a name of letters, digits, _ and -", quote(&entry.key));
            cx.error(entry.place, message);
            return None;
        }
        Some(Capture { name: entry.key.clone(), source: source(cx, &entry.value)? })
    })
}

fn source(cx: &mut Context<'_>, node: &Node) -> Option<Source> {
    const WANTED: &str =
        "a JSON pointer such as /code, or one of {json: …}, {regex: …}, {css: …, attr: …}, {header: …}";
    if let Some(text) = node.as_text() {
        if text.starts_with('/') {
            return Some(Source::Json(text.to_owned()));
        }
        cx.expected(node, WANTED);
        return None;
    }
    let section = Section::open(cx, node, "capture", &["json", "regex", "css", "attr", "header"], &[])?;
    let given: Vec<&str> =
        ["json", "regex", "css", "header"].into_iter().filter(|key| section.get(key).is_some()).collect();
    if section.get("attr").is_some() && given != ["css"] {
        cx.error(node.place, "capture: attr belongs to css");
        return None;
    }
    match given.as_slice() {
        ["json"] => section.optional(cx, "json", |cx, node| {
            let pointer = node.as_text().filter(|text| is_pointer(text));
            if pointer.is_none() {
                cx.expected(node, "a JSON pointer such as /code");
            }
            pointer.map(|pointer| Source::Json(pointer.to_owned()))
        }),
        ["regex"] => section.optional(cx, "regex", expression).map(Source::Regex),
        ["css"] => {
            let attribute = section.optional(cx, "attr", decode::text);
            let selector = section.optional(cx, "css", |cx, node| {
                let text = from_file(cx, node)?;
                Selector::parse(&text).map_err(|problem| cx.wrong(node, problem)).ok()
            });
            Some(Source::Css { selector: selector?, attribute })
        }
        ["header"] => section.optional(cx, "header", |cx, node| {
            let name = node.as_text().and_then(|text| HeaderName::from_bytes(text.as_bytes()).ok());
            if name.is_none() {
                cx.expected(node, "the name of a header");
            }
            name.map(Source::Header)
        }),
        _ => {
            cx.expected(node, WANTED);
            None
        }
    }
}

fn own_timeout(cx: &mut Context<'_>, node: &Node, whole: Duration) -> Option<Duration> {
    let timeout = decode::duration(SECOND / 100..=5 * MINUTE)(cx, node)?;
    if timeout > whole {
        let whole = decode::write_duration(whole);
        cx.wrong(node, format!("found {}, longer than the timeout of the service ({whole})", node.found()));
        return None;
    }
    Some(timeout)
}

/// Text with `{{name}}`; each name was captured by an earlier step, or is a secret.
fn template(cx: &mut Context<'_>, node: &Node, scope: &Scope<'_>) -> Option<Template> {
    let text = decode::text(cx, node)?;
    let pieces = cx.expanded.get(&node.place).cloned().unwrap_or_else(|| vec![Piece::Text(text)]);
    let mut template = Template::default();
    for piece in pieces {
        match piece {
            Piece::Value(value) => template.push_environment(value),
            Piece::Text(text) => {
                if let Err(error) = template.push(&text, scope.secrets) {
                    let message = scope.explain(error);
                    cx.wrong(node, message);
                    return None;
                }
            }
        }
    }
    let unknown = template.captures().find(|name| !scope.captures.iter().any(|known| known == name)).map(str::to_owned);
    if let Some(name) = unknown {
        let message = scope.unknown(&name);
        cx.wrong(node, message);
        return None;
    }
    Some(template)
}

impl Scope<'_> {
    fn explain(&self, error: TemplateError) -> String {
        match error {
            TemplateError::Unclosed => r#""{{" without "}}"; write \{{ for a literal {{"#.to_owned(),
            TemplateError::Name => {
                r"expected the name of a capture, or secret.NAME, in {{…}}; write \{{ for a literal {{".to_owned()
            }
            TemplateError::UnknownSecret(name) => {
                let known: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
                let near = nearest(&name, &known);
                format!("no secret has the name {}{near}; give it a file: secrets: {{{name}_file: FILE}}", quote(&name))
            }
        }
    }

    fn unknown(&self, name: &str) -> String {
        if let Some((_, step)) = self.later.iter().find(|(later, _)| later == name) {
            return format!("{{{{{name}}}}} is captured only by the step {}, not before this one", quote(step));
        }
        let mut known: Vec<String> = self.captures.clone();
        known.extend(self.secrets.keys().map(|name| format!("{SECRET_PREFIX}{name}")));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        format!("no earlier step captures {{{{{name}}}}}{}", nearest(name, &known))
    }
}
