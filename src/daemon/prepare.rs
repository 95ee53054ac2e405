//! Everything that is read before anything is started: the configuration, the rules, the inventory, and the queries in
//! them. `check`, the start and a reload all pass here, so that they never disagree.

use crate::config::site::Evaluate;
use crate::config::{self, Config, Problem, Problems};
use crate::gather::device::inventory::{self, Inventory};
use crate::gather::payment::fees::{self, Fees};
use crate::mail::templates::Templates;
use crate::org::Org;
use crate::promql::Query;
use crate::rules::{self, RuleSet};
use promql_parser::label::Matchers;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A configuration with all it names, ready to run.
pub struct Prepared {
    pub config: Arc<Config>,
    pub org: Arc<Org>,
    pub rules: RuleSet,
    pub inventory: Inventory,
    pub fees: Arc<Fees>,
    /// How far back rules and indicators look.
    pub ranges: Vec<(Matchers, Duration)>,
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
    let own = queries(&config, &mut problems);
    if let Some(dir) = config.email.as_ref().and_then(|email| email.templates.as_ref()) {
        // Each mail's reader takes them up anew; here it is seen that they can be used.
        Templates::load(dir, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems.into_sorted());
    }
    let ranges = rules.queries().chain(&own).flat_map(Query::lookback).collect();
    let org = Arc::new(Org::new(&config));
    Ok(Prepared { config: Arc::new(config), org, rules, inventory, fees: Arc::new(fees), ranges })
}

/// The queries that stand in the configuration itself: of the indicators, and the selectors of `history.keep`.
fn queries(config: &Config, problems: &mut Problems) -> Vec<Query> {
    let keep = config.history.keep.iter().map(|keep| ("history.keep".to_string(), keep.selector.as_str()));
    let indicators = config.evaluation.iter().flat_map(|evaluation| &evaluation.indicators).flat_map(|indicator| {
        let label = format!("evaluation.indicators: {}", indicator.label());
        indicator.queries().into_iter().map(move |(key, text)| (format!("{label}: {key}"), text))
    });
    let mut queries = Vec::new();
    for (place, text) in keep.chain(indicators) {
        match Query::parse(text) {
            Ok(query) => queries.push(query),
            Err(error) => {
                let (line, column) = locate(&config.file, text);
                problems.add(&config.file, line, column, format!("{place}: {text:?}: {error}"));
            }
        }
    }
    queries
}

/// Where `text` stands in `file`, both from 1: the configuration keeps no positions of queries. 0 and 0 if it is written
/// there in another way (escaped, folded).
fn locate(file: &Path, text: &str) -> (u32, u32) {
    let Ok(whole) = std::fs::read_to_string(file) else { return (0, 0) };
    let place = whole.lines().zip(1..).find_map(|(content, line)| Some((line, content.find(text)?, content)));
    place.map_or((0, 0), |(line, offset, content)| (line, content[..offset].chars().count() as u32 + 1))
}
