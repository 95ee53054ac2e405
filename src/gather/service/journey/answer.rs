//! Whether the answer of a step is the expected one, and what later steps take from it.

use super::super::detail::{Detail, Failure};
use super::super::outcome::CheckResult;
use super::exchange::Answer;
use super::request::fill;
use super::{Run, html};
use crate::config::probes::journey::{Source, Step, Template};
use serde_json::Value;
use std::borrow::Cow;

/// A captured value is a code, a token or a link.
const CAPTURE_MAX: usize = 8 * 1024;

/// Judges the answer in the order status, headers, body, JSON; then takes the captures. A capture that is not there fails
/// the step: without it no later step could go on.
pub(super) fn judge(step: &Step, answer: &Answer, run: &mut Run) -> Result<(), Failure> {
    let content = |detail: Detail| Failure::new(CheckResult::Content, detail);
    if !step.status.contains(&answer.status) {
        return Err(Failure::new(CheckResult::Status, Detail::Status { code: answer.status }));
    }
    for (name, expression) in &step.header_matches {
        let mut values = answer.headers.get_all(name).iter();
        if !values.any(|value| expression.is_match(&String::from_utf8_lossy(value.as_bytes()))) {
            return Err(content(Detail::HeaderDiffers { name: name.to_string() }));
        }
    }
    let plain = |template: &Template| fill(template, run, &|value| Some(value.to_owned()));
    let has = |text: &str| memchr::memmem::find(&answer.body, text.as_bytes()).is_some();
    if let Some(forbidden) = &step.body_not_contains
        && has(&plain(forbidden)?)
    {
        return Err(content(Detail::Forbidden { text: forbidden.shown() }));
    }
    if let Some(wanted) = &step.body_contains
        && !has(&plain(wanted)?)
    {
        return Err(content(Detail::Missing { text: wanted.shown(), searched: answer.body.len() as u64 }));
    }
    let needs_json =
        !step.json_path.is_empty() || step.captures.iter().any(|capture| matches!(capture.source, Source::Json(_)));
    let json: Option<Value> = if needs_json { serde_json::from_slice(&answer.body).ok() } else { None };
    if needs_json && json.is_none() {
        return Err(content(Detail::NotJson));
    }
    for expected in &step.json_path {
        let found = json.as_ref().and_then(|json| json.pointer(&expected.pointer)).and_then(scalar);
        if found.as_deref() != Some(plain(&expected.value)?.as_str()) {
            let detail = Detail::JsonDiffers { pointer: expected.pointer.clone(), expected: expected.value.shown() };
            return Err(content(detail));
        }
    }
    let mut taken = Vec::new();
    for capture in &step.captures {
        let found = take(&capture.source, answer, json.as_ref());
        match found.filter(|value| !value.is_empty() && value.len() <= CAPTURE_MAX) {
            Some(value) => taken.push((capture.name.clone(), value)),
            None => return Err(content(Detail::NotCaptured { name: capture.name.clone() })),
        }
    }
    for (name, value) in taken {
        run.capture(&name, value);
    }
    Ok(())
}

fn take(source: &Source, answer: &Answer, json: Option<&Value>) -> Option<String> {
    match source {
        Source::Json(pointer) => json?.pointer(pointer).and_then(scalar).map(Cow::into_owned),
        Source::Regex(expression) => {
            let body = String::from_utf8_lossy(&answer.body);
            let found = expression.captures(&body)?;
            found.get(1).or(found.get(0)).map(|found| found.as_str().to_owned())
        }
        Source::Css { selector, attribute } => html::find(&answer.body, selector, attribute.as_deref()),
        Source::Header(name) => Some(String::from_utf8_lossy(answer.headers.get(name)?.as_bytes()).trim().to_owned()),
    }
}

/// A text, number or boolean as text; `None` for anything else.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
