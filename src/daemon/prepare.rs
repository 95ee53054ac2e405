//! Everything that is read before anything is started: the configuration, the rules, the inventory, and the queries in
//! them. `check`, the start and a reload all pass here, so that they never disagree.

use crate::cli::check::Checker;
use crate::config::evaluation::Measure;
use crate::config::site::Evaluate;
use crate::config::{self, Config, Id, Problem, Problems};
use crate::gather::device::inventory::{self, Inventory};
use crate::org::Org;
use crate::promql::Query;
use crate::rules::{self, RuleSet};
use promql_parser::label::Matchers;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A configuration with all it names, ready to run.
pub struct Prepared {
    pub config: Arc<Config>,
    pub org: Arc<Org>,
    pub rules: RuleSet,
    pub inventory: Inventory,
    /// How far back rules and indicators look.
    pub ranges: Vec<(Matchers, Duration)>,
}

/// Texts in the configuration that only the query engine understands.
const CHECKERS: &[Checker] = &[check_keep, check_indicators];

/// Reads a configuration and everything it names. Connects to nothing. Gives every problem, not only the first.
pub fn prepare(file: &Path) -> Result<Prepared, Vec<Problem>> {
    let config = config::load(file)?;
    let mut problems = Problems::default();
    let rules = match (config.rules.evaluate, config.rules.files.is_empty()) {
        (Evaluate::External, true) => RuleSet::default(),
        (_, true) => rules::builtin(config.history.tick),
        (_, false) => rules::load(&config.rules.files, config.history.tick, &mut problems),
    };
    let agencies: BTreeSet<Id> = config.agencies.iter().map(|agency| agency.id.clone()).collect();
    let inventory = match config.devices.as_ref().and_then(|devices| devices.inventory.as_deref()) {
        Some(path) => inventory::load(path, &agencies, &mut problems),
        None => Inventory::default(),
    };
    for checker in CHECKERS {
        checker(&config, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems.into_sorted());
    }
    let indicators: Vec<Query> = indicator_queries(&config).filter_map(|(_, text)| Query::parse(text).ok()).collect();
    let ranges = rules.queries().chain(&indicators).flat_map(Query::lookback).collect();
    let org = Arc::new(Org::new(&config));
    Ok(Prepared { config: Arc::new(config), org, rules, inventory, ranges })
}

fn check_keep(config: &Config, problems: &mut Problems) {
    for keep in &config.history.keep {
        if let Err(error) = Query::parse(&keep.selector) {
            problems.add(&config.file, 0, 0, format!("history.keep: {:?}: {error}", keep.selector));
        }
    }
}

fn check_indicators(config: &Config, problems: &mut Problems) {
    for (id, text) in indicator_queries(config) {
        if let Err(error) = Query::parse(text) {
            problems.add(&config.file, 0, 0, format!("evaluation.indicators: {id}: {text:?}: {error}"));
        }
    }
}

fn indicator_queries(config: &Config) -> impl Iterator<Item = (&Id, &str)> {
    let indicators = config.evaluation.iter().flat_map(|evaluation| &evaluation.indicators);
    indicators.flat_map(|indicator| {
        let texts: Vec<&str> = match &indicator.measure {
            Measure::Availability(_) => Vec::new(),
            Measure::Ratio { numerator, denominator } => vec![numerator, denominator],
            Measure::Value { query } => vec![query],
        };
        texts.into_iter().map(|text| (&indicator.id, text))
    })
}
