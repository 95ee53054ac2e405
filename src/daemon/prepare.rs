//! Everything that is read before anything is started: the configuration, the rules, the inventory, and the queries in
//! them. `check`, the start and a reload all pass here, so that they never disagree.

use super::expected;
use crate::config::site::Evaluate;
use crate::config::{self, Config, Problem, Problems};
use crate::format;
use crate::gather::device::inventory::{self, Inventory};
use crate::gather::payment::fees::{self, Fees};
use crate::history::{Estimate, MetricEstimate, Need};
use crate::mail::templates::Templates;
use crate::org::Org;
use crate::promql::Query;
use crate::rules::{self, RuleSet};
use std::path::Path;
use std::sync::Arc;

/// A configuration with all it names, ready to run.
pub struct Prepared {
    pub config: Arc<Config>,
    pub org: Arc<Org>,
    pub rules: RuleSet,
    pub inventory: Inventory,
    pub fees: Arc<Fees>,
    /// How far back rules and indicators look.
    pub needs: Vec<Need>,
    /// What the history may take for that.
    pub estimate: Estimate,
}

/// Reads a configuration and everything it names. Connects to nothing. Gives every problem, not only the first.
pub fn prepare(file: &Path) -> Result<Prepared, Vec<Problem>> {
    let (config, mut problems) = config::load_partly(file, &|name| std::env::var(name).ok());
    // What could be read of a faulty configuration is checked all the same.
    let Some(config) = config else { return Err(problems.into_sorted()) };
    let rules = match (config.rules.evaluate, config.rules.files.is_empty()) {
        (Evaluate::External, true) => RuleSet::default(),
        (Evaluate::Embedded, true) => rules::builtin(config.history.tick),
        (_, false) => rules::load(&config.rules.files, config.history.tick, &mut problems),
    };
    let inventory = inventory::of(&config, &mut problems);
    let fees = fees::of(&config, &mut problems);
    let mut needs = needs(&config, &mut problems);
    if let Some(dir) = config.email.as_ref().and_then(|email| email.templates.as_ref()) {
        // Each mail's reader takes them up anew; here it is seen that they can be used.
        Templates::load(dir, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems.into_sorted());
    }
    if config.rules.evaluate == Evaluate::Embedded {
        needs.extend(rules.needs());
    }
    if config.history.remote.is_some() {
        // The rest is asked there.
        let recorded = rules.recorded();
        needs.retain(|need| need.metric().is_some_and(|metric| recorded.contains(&metric)));
    }
    let estimate = expected::estimate(&config, &inventory, &rules, &needs);
    if estimate.total() > config.history.max_memory {
        let place = config.history.place;
        problems.add(&config.file, place.line, place.column, excess(&estimate, config.history.max_memory));
        return Err(problems.into_sorted());
    }
    let org = Arc::new(Org::new(&config));
    Ok(Prepared { config: Arc::new(config), org, rules, inventory, fees: Arc::new(fees), needs, estimate })
}

impl Prepared {
    /// See [`RuleSet::unforeseen`]; nothing if the history of this daemon is not asked.
    pub fn unforeseen(&self) -> Vec<String> {
        let is_asked = self.config.rules.evaluate == Evaluate::Embedded && self.config.history.remote.is_none();
        if is_asked { self.rules.unforeseen() } else { Vec::new() }
    }
}

/// What is said if the history may need more than it may take.
fn excess(estimate: &Estimate, max_memory: u64) -> String {
    let mut text = format!(
        "history: up to {} would have to be remembered, max_memory allows {}",
        format::bytes(estimate.total()),
        format::bytes(max_memory)
    );
    for (index, metric) in notable(estimate).enumerate() {
        text.push_str(if index == 0 { ": " } else { "; " });
        text.push_str(&said(metric));
    }
    text
}

/// The metrics that take most: each at least a twentieth of the whole, five at most.
pub fn notable(estimate: &Estimate) -> impl Iterator<Item = &MetricEstimate> {
    let least = estimate.total() / 20;
    estimate.metrics.iter().take(5).filter(move |metric| metric.bytes >= least)
}

/// What a metric takes, and why.
pub fn said(metric: &MetricEstimate) -> String {
    let MetricEstimate { metric, series, bytes, kept, reader } = metric;
    let reader = if reader.is_empty() { "history.window" } else { reader };
    // Seconds of a margin are of no interest.
    let kept = std::time::Duration::from_secs(kept.as_secs() / 60 * 60);
    let kept = config::write_duration(kept);
    format!("{metric} {} ({series} series kept {kept} for {reader})", format::bytes(*bytes))
}

/// How far back the queries look that stand in the configuration itself: those of the indicators. The selectors of
/// `history.keep` are tried too; the history takes them from there.
fn needs(config: &Config, problems: &mut Problems) -> Vec<Need> {
    let keep = config.history.keep.iter().map(|keep| ("history.keep".to_string(), keep.selector.as_str(), None));
    let indicators = config.evaluation.iter().flat_map(|evaluation| &evaluation.indicators).flat_map(|indicator| {
        let label = format!("evaluation.indicators: {}", indicator.label());
        let queries = indicator.queries().into_iter();
        queries.map(move |(key, text)| (format!("{label}: {key}"), text, Some(indicator.label())))
    });
    let mut needs = Vec::new();
    for (place, text, reader) in keep.chain(indicators) {
        match Query::parse(text) {
            Ok(query) => needs.extend(reader.iter().flat_map(|reader| Need::of(&query, reader))),
            Err(error) => {
                let (line, column) = locate(&config.file, text);
                problems.add(&config.file, line, column, format!("{place}: {text:?}: {error}"));
            }
        }
    }
    needs
}

/// Where `text` stands in `file`, both from 1: the configuration keeps no positions of queries. 0 and 0 if it is written
/// there in another way (escaped, folded).
fn locate(file: &Path, text: &str) -> (u32, u32) {
    let Ok(whole) = std::fs::read_to_string(file) else { return (0, 0) };
    let place = whole.lines().zip(1..).find_map(|(content, line)| Some((line, content.find(text)?, content)));
    place.map_or((0, 0), |(line, offset, content)| (line, content[..offset].chars().count() as u32 + 1))
}
