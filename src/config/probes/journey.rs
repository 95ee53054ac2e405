//! Probe `journey`: an ordered list of HTTP steps that acts as a citizen would.
//!
//! The types and what binds a journey together stand here; `step.rs` reads one step, `template.rs` is text with `{{name}}`.

mod selector;
mod step;
mod template;

pub use selector::{Compound, Selector};
pub(in crate::config) use step::expression;
pub use step::{Body, Capture, Json, JsonExpectation, Source, Step};
pub use template::Template;

use crate::config::decode::{self, Context, SECOND, Section};
use crate::config::environment::Piece;
use crate::config::mask::Mask;
use crate::config::node::{Node, Value, quote};
use crate::config::{Secret, probes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// More steps than any citizen takes; each step is a series.
const STEPS_MAX: usize = 50;

/// The longest time that `finally` may take.
const FINALLY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Journey {
    /// Not empty; names are unique, also among `finally`.
    pub steps: Vec<Step>,
    /// Made after the others, however those ended, as far as the captures they need are there.
    pub finally: Vec<Step>,
    /// How long all of `finally` may take, beyond the service's timeout. Default: the timeout, at most 10 s.
    pub finally_timeout: Duration,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A journey whose steps together take longer is `slow` (and still up).
    pub slow_after: Option<Duration>,
    /// The origins that the steps name: where a captured address may lead.
    pub origins: BTreeSet<String>,
    /// Hides the secrets that the journey holds.
    pub mask: Arc<Mask>,
}

/// What the steps of a journey are read with.
struct Scope<'a> {
    secrets: &'a BTreeMap<String, Secret>,
    /// The captures of the steps read so far.
    captures: Vec<String>,
    /// The captures of all steps, and the step that makes each first.
    later: &'a [(String, String)],
    /// Of the service.
    timeout: Duration,
}

impl Journey {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<Journey> {
        const KEYS: &[&str] = &["steps", "finally", "finally_timeout", "secrets", "ca_file", "slow_after"];
        let listed = matches!(node.value, Value::Sequence(_));
        let empty = Node { value: Value::Null, place: node.place, is_literal: false };
        let section = Section::open(cx, if listed { &empty } else { node }, "journey", KEYS, &[])?;
        let list = if listed { Some(node) } else { section.get("steps") };
        let finally = section.get("finally");
        let secrets = section.optional(cx, "secrets", secrets).unwrap_or_default();
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let slow_after = section.optional(cx, "slow_after", probes::slow_after(timeout));
        let finally_timeout = section.optional(cx, "finally_timeout", decode::duration(SECOND / 10..=FINALLY_MAX));

        let later = declared_captures(list);
        let mut scope = Scope { secrets: &secrets, captures: Vec::new(), later: &later, timeout };
        let names = [decode::declared(list, "name"), decode::declared(finally, "name")].concat();
        decode::unique(cx, "step name", &names);
        let steps = read_steps(cx, list, &mut scope);
        // A step of `finally` may use what any step captured, also one that came after the failure.
        scope.captures.extend(later.iter().map(|(name, _)| name.clone()));
        let finally = read_steps(cx, finally, &mut scope);
        if list.is_none_or(|list| list.is_null() || list.as_sequence().is_some_and(<[Node]>::is_empty)) {
            cx.error(node.place, "journey: a journey has at least one step: [{name: …, get: …}]");
            return None;
        }
        if names.len() > STEPS_MAX {
            cx.error(node.place, format!("journey: found {} steps, at most {STEPS_MAX} are possible", names.len()));
        }
        check_thinking(cx, node, &steps, "timeout", timeout);
        let finally_timeout = finally_timeout.unwrap_or_else(|| timeout.min(10 * SECOND));
        check_thinking(cx, node, &finally, "finally_timeout", finally_timeout);
        let mut mask = Mask::default();
        secrets.values().for_each(|secret| mask.add(secret.expose()));
        hide_environment(cx, node, &mut mask);
        let origins = steps.iter().chain(&finally).filter_map(|step| step.origin.clone()).collect();
        Some(Journey { steps, finally, finally_timeout, ca_file, slow_after, origins, mask: Arc::new(mask) })
    }

    /// The names of the steps in order, those of `finally` last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().chain(&self.finally).map(|step| step.name.as_str())
    }
}

fn read_steps(cx: &mut Context<'_>, list: Option<&Node>, scope: &mut Scope<'_>) -> Vec<Step> {
    let Some(node) = list else { return Vec::new() };
    decode::list(|cx, node| Step::decode(cx, node, scope))(cx, node).unwrap_or_default()
}

/// `{NAME_file: PATH}`: what `{{secret.NAME}}` stands for.
fn secrets(cx: &mut Context<'_>, node: &Node) -> Option<BTreeMap<String, Secret>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {password_file: FILE}, used as {{secret.password}}");
        return None;
    };
    let mut secrets = BTreeMap::new();
    for entry in entries {
        match entry.key.strip_suffix("_file").filter(|name| template::is_name(name)) {
            Some(name) => {
                if let Some(secret) = decode::secret_file(cx, &entry.value) {
                    secrets.insert(name.to_owned(), secret);
                }
            }
            None => {
                let example = if template::is_name(&entry.key) { entry.key.as_str() } else { "password" };
                let message = format!(
                    "secrets: {} is not allowed: secrets do not stand in this file; write the secret to a file of its \
                     own and name it with \"{example}_file\", used as {{{{secret.{example}}}}}",
                    quote(&entry.key)
                );
                cx.error(entry.place, message);
            }
        }
    }
    Some(secrets)
}

/// The names that steps capture, sound or not, each with its step.
fn declared_captures(list: Option<&Node>) -> Vec<(String, String)> {
    let steps = list.and_then(Node::as_sequence).unwrap_or_default();
    let of = |step: &Node| {
        let name = step.get("name").and_then(Node::as_text).unwrap_or_default().to_owned();
        let entries = step.get("capture").and_then(Node::as_mapping).unwrap_or_default();
        entries.iter().map(move |entry| (entry.key.clone(), name.clone())).collect::<Vec<_>>()
    };
    steps.iter().flat_map(of).collect()
}

/// A journey that thinks until its deadline can never arrive.
fn check_thinking(cx: &mut Context<'_>, node: &Node, steps: &[Step], key: &str, limit: Duration) {
    let think: Duration = steps.iter().map(|step| step.think).sum();
    if think >= limit {
        let (think, limit) = (decode::write_duration(think), decode::write_duration(limit));
        cx.error(node.place, format!("journey: the steps think for {think} together, not less than {key} ({limit})"));
    }
}

/// Everything that came from the environment is a secret, wherever in the journey it stands.
fn hide_environment(cx: &Context<'_>, node: &Node, mask: &mut Mask) {
    for piece in cx.expanded.get(&node.place).into_iter().flatten() {
        if let Piece::Value(value) = piece {
            mask.add(value.expose());
        }
    }
    match &node.value {
        Value::Sequence(nodes) => nodes.iter().for_each(|node| hide_environment(cx, node, mask)),
        Value::Mapping(entries) => entries.iter().for_each(|entry| hide_environment(cx, &entry.value, mask)),
        Value::Null | Value::Scalar(_) | Value::Invalid => {}
    }
}
