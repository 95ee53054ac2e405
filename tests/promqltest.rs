//! Runs the PromQL cases of the Prometheus project against our engine.
//!
//! The files are not part of this project: `PROMQLTEST_DIR` (default `../shared/promqltest`) names their directory; the
//! test is skipped with a message if it is not there. What is wrong fails the test; what the engine refuses by name
//! (native histograms, experimental functions) is counted. Annotations (`expect warn`, `no_info` …) are checked with the
//! value, but where native histograms are read, of which they speak then. Past 500 lines because reader and runner of the one format stand together.

#[path = "promqltest/differential.rs"]
mod differential;
#[path = "promqltest/remote.rs"]
mod remote;
#[path = "support/mod.rs"]
mod support;

use ioc_watch::promql::{
    self, Labels, Limits, Notes, Query, QueryError, Run, Runs, STALE_NAN_BITS, Series, Storage, Value,
};
use promql_parser::label::Matchers;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn the_cases_of_prometheus_pass_or_are_refused_by_name() {
    let directory = std::env::var_os("PROMQLTEST_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/promqltest"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&directory) else {
        println!("skipped: no directory {}", directory.display());
        return;
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    files.sort();
    let mut total = Tally::default();
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a readable test file");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let tally = Runner::new(&name, &text).run();
        println!("{name} {tally}");
        total.add(&tally);
    }
    println!("total {total}");
    assert!(total.wrong.is_empty(), "{} wrong:\n{}", total.wrong.len(), total.wrong.join("\n"));
}

#[derive(Default)]
struct Tally {
    passed: usize,
    unsupported: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.unsupported += other.unsupported;
        self.wrong.extend(other.wrong.iter().cloned());
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.passed + self.unsupported + self.wrong.len();
        write!(f, "passed {} of {all}, unsupported {}", self.passed, self.unsupported)
    }
}

/// Samples by series, as the `load` lines give them.
#[derive(Default)]
struct Loaded {
    samples: BTreeMap<Labels, BTreeMap<i64, f64>>,
    frozen: Vec<(Labels, Vec<i64>, Vec<Run>)>,
    /// Series of which some samples are native histograms.
    histograms: Vec<Labels>,
}

impl Loaded {
    fn freeze(&mut self) {
        let runs = |samples: &BTreeMap<i64, f64>| {
            let mut runs: Vec<Run> = Vec::new();
            for (from, value) in samples.values().enumerate() {
                if runs.last().is_none_or(|last| last.value.to_bits() != value.to_bits()) {
                    runs.push(Run { from: from as u32, value: *value });
                }
            }
            runs
        };
        let freeze = |(labels, samples): (&Labels, &BTreeMap<i64, f64>)| {
            (labels.clone(), samples.keys().copied().collect(), runs(samples))
        };
        self.frozen = self.samples.iter().map(freeze).collect();
    }
}

impl Storage for Loaded {
    fn select<'s>(&'s self, matchers: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
        for (labels, ticks, runs) in &self.frozen {
            if matchers.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name))) {
                each(Series { labels: labels.view(), ticks, runs: Runs::Kept(runs) });
            }
        }
    }
}

enum Time {
    Instant(i64),
    Range { from: i64, to: i64, step: i64 },
}

/// One `eval` with the lines under it.
struct Case<'a> {
    line: usize,
    expression: &'a str,
    time: Time,
    fails: bool,
    message: Option<(bool, String)>,
    ordered: bool,
    string: Option<String>,
    notes: Vec<Expectation<'a>>,
    expected: Vec<&'a str>,
}

/// `expect [no_]warn` or `expect [no_]info`.
struct Expectation<'a> {
    is_warning: bool,
    some: bool,
    /// `msg:` or `regex:`; empty if any will do.
    text: &'a str,
}

impl<'a> Expectation<'a> {
    fn parse(line: &'a str) -> Option<Expectation<'a>> {
        let (kind, text) = line.split_once(' ').unwrap_or((line, ""));
        let (is_warning, some) = match kind {
            "warn" => (true, true),
            "no_warn" => (true, false),
            "info" => (false, true),
            "no_info" => (false, false),
            _ => return None,
        };
        Some(Expectation { is_warning, some, text: text.trim() })
    }

    fn check(&self, notes: &Notes) -> Result<(), Miss> {
        let found = if self.is_warning { &notes.warnings } else { &notes.infos };
        let fits = |note: &String| match (self.text.strip_prefix("msg:"), self.text.strip_prefix("regex:")) {
            (Some(message), _) => note == message.trim(),
            (_, Some(regex)) => regex::Regex::new(regex.trim()).is_ok_and(|regex| regex.is_match(note)),
            (None, None) => true,
        };
        let is_met = if self.some { !found.is_empty() && found.iter().all(fits) } else { found.is_empty() };
        let (what, wanted) = (if self.is_warning { "warnings" } else { "infos" }, self.some);
        if is_met { Ok(()) } else { Err(wrong(format!("{what} {found:?}, wanted: {wanted} {}", self.text))) }
    }
}

enum Miss {
    Unsupported,
    Wrong(String),
}

struct Runner<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    loaded: Loaded,
    tally: Tally,
}

impl<'a> Runner<'a> {
    fn new(file: &'a str, text: &'a str) -> Runner<'a> {
        Runner { file, lines: text.lines().collect(), loaded: Loaded::default(), tally: Tally::default() }
    }

    fn run(mut self) -> Tally {
        let mut at = 0;
        while at < self.lines.len() {
            let line = self.lines[at].trim();
            let block = self.block(at + 1);
            if line == "clear" {
                self.loaded = Loaded::default();
            } else if let Some(rest) = line.strip_prefix("load_with_nhcb ") {
                // It also makes native histograms of the classic ones, by the name without `_bucket`.
                let classic = block.iter().filter_map(|line| Some(series_line(line)?.0));
                self.loaded.histograms.extend(classic.filter_map(|labels| {
                    let name = labels.name().strip_suffix("_bucket")?.to_owned();
                    Some(labels.with("__name__", &name).with("le", ""))
                }));
                self.load(rest, &block);
            } else if let Some(rest) = line.strip_prefix("load ") {
                self.load(rest, &block);
            } else if line.starts_with("eval") {
                let result = parse_case(at + 1, line, &block).and_then(|case| self.check(&case));
                match result {
                    Ok(()) => self.tally.passed += 1,
                    Err(Miss::Unsupported) => self.tally.unsupported += 1,
                    Err(Miss::Wrong(why)) => {
                        self.tally.wrong.push(format!("{}:{}: {line}: {why}", self.file, at + 1));
                    }
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                self.tally.wrong.push(format!("{}:{}: not understood: {line}", self.file, at + 1));
            }
            at += 1;
            while at < self.lines.len() && self.is_block_line(at) {
                at += 1;
            }
        }
        self.tally
    }

    fn is_block_line(&self, at: usize) -> bool {
        let line = self.lines[at];
        line.starts_with([' ', '\t']) || line.starts_with('#')
    }

    /// The indented lines from `at` on, without comments.
    fn block(&self, at: usize) -> Vec<&'a str> {
        (at..self.lines.len())
            .take_while(|at| self.is_block_line(*at))
            .map(|at| self.lines[at].trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }

    fn load(&mut self, step: &str, block: &[&str]) {
        let step = milliseconds(step.trim()).expect("a step");
        for line in block {
            let (labels, values) = series_line(line).unwrap_or_else(|| panic!("{}: series {line}", self.file));
            let Some(values) = expand(values) else {
                self.loaded.histograms.push(labels);
                continue;
            };
            let samples = self.loaded.samples.entry(labels).or_default();
            for (index, value) in values.into_iter().enumerate() {
                if let Some(value) = value {
                    samples.insert(index as i64 * step, value);
                }
            }
        }
        self.loaded.freeze();
    }

    fn check(&self, case: &Case<'_>) -> Result<(), Miss> {
        let query = match Query::parse(case.expression) {
            Ok(query) => query,
            Err(QueryError::Unsupported(_)) => return Err(Miss::Unsupported),
            Err(_) if case.fails && case.message.is_none() => return Ok(()),
            Err(error) => return Err(Miss::Wrong(format!("parse: {error}"))),
        };
        if case.expected.iter().any(|line| line.contains("{{")) {
            return Err(Miss::Unsupported);
        }
        let result = if case.fails { self.check_failure(case, &query) } else { self.check_value(case, &query) };
        // Native histograms are not loaded. Most functions pass them over, so the result may be right without them; if
        // it is not, that says nothing.
        result.map_err(|miss| if self.reads_histograms(&query) { Miss::Unsupported } else { miss })
    }

    fn check_value(&self, case: &Case<'_>, query: &Query) -> Result<(), Miss> {
        match case.time {
            Time::Instant(at) => {
                let result = promql::noted_instant(&self.loaded, query, at, Limits::default());
                let (value, notes) = result.map_err(|error| Miss::Wrong(error.to_string()))?;
                self.check_notes(case, query, &notes)?;
                compare_instant(case, value)
            }
            Time::Range { from, to, step } => {
                let result = promql::noted_range(&self.loaded, query, (from, to, step), Limits::default());
                let (series, notes) = result.map_err(|error| Miss::Wrong(error.to_string()))?;
                self.check_notes(case, query, &notes)?;
                let expected = expected_range(&case.expected, from, step)?;
                let found = series.into_iter().map(|series| (series.labels, series.samples)).collect();
                compare_series(expected, found)
            }
        }
    }

    /// Where native histograms are read, the notes are about them.
    fn check_notes(&self, case: &Case<'_>, query: &Query, notes: &Notes) -> Result<(), Miss> {
        if self.reads_histograms(query) {
            return Ok(());
        }
        case.notes.iter().try_for_each(|expected| expected.check(notes))
    }

    fn check_failure(&self, case: &Case<'_>, query: &Query) -> Result<(), Miss> {
        let result = match case.time {
            Time::Instant(at) => promql::instant(&self.loaded, query, at).map(|value| format!("{value:?}")),
            Time::Range { from, to, step } => {
                promql::range(&self.loaded, query, from, to, step).map(|series| format!("{series:?}"))
            }
        };
        match (result, &case.message) {
            (Ok(value), _) => Err(Miss::Wrong(format!("does not fail: {value}"))),
            (Err(_), None) => Ok(()),
            (Err(error), Some((is_regex, message))) => {
                let error = error.to_string();
                let fits = if *is_regex {
                    regex::Regex::new(message).is_ok_and(|regex| regex.is_match(&error))
                } else {
                    error == *message
                };
                if fits { Ok(()) } else { Err(Miss::Wrong(format!("fails with {error:?} instead of {message:?}"))) }
            }
        }
    }

    fn reads_histograms(&self, query: &Query) -> bool {
        let matches = |matchers: &Matchers, labels: &Labels| {
            matchers.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name)))
        };
        let mut selectors = query.lookback().into_iter();
        selectors.any(|(matchers, _)| self.loaded.histograms.iter().any(|labels| matches(&matchers, labels)))
    }
}

fn wrong(why: impl Into<String>) -> Miss {
    Miss::Wrong(why.into())
}

fn parse_case<'a>(line: usize, text: &'a str, block: &[&'a str]) -> Result<Case<'a>, Miss> {
    let (command, rest) = text.split_once(' ').ok_or_else(|| wrong("no expression"))?;
    let mut words = rest.splitn(2, ' ');
    let take = |rest: &mut &'a str| -> Option<&'a str> {
        let (word, tail) = rest.trim_start().split_once(' ')?;
        *rest = tail.trim_start();
        Some(word)
    };
    let kind = words.next().unwrap_or_default();
    let mut rest = words.next().unwrap_or_default();
    let time = |word: Option<&str>| word.and_then(milliseconds).ok_or_else(|| wrong("no time"));
    let time = if kind == "instant" {
        take(&mut rest);
        Time::Instant(time(take(&mut rest))?)
    } else {
        take(&mut rest);
        let from = time(take(&mut rest))?;
        take(&mut rest);
        let to = time(take(&mut rest))?;
        take(&mut rest);
        Time::Range { from, to, step: time(take(&mut rest))? }
    };
    let mut case = Case {
        line,
        expression: rest,
        time,
        fails: command == "eval_fail",
        message: None,
        ordered: command == "eval_ordered",
        string: None,
        notes: Vec::new(),
        expected: Vec::new(),
    };
    for line in block {
        let expectation = line.strip_prefix("expect ").map(str::trim);
        match expectation {
            Some("ordered") => case.ordered = true,
            Some(text) if text.starts_with("fail") => {
                case.fails = true;
                let text = text["fail".len()..].trim();
                let message = text.strip_prefix("msg:").map(|message| (false, message.trim().to_owned()));
                case.message =
                    message.or_else(|| text.strip_prefix("regex:").map(|regex| (true, regex.trim().to_owned())));
            }
            Some(text) if text.starts_with("string ") => {
                let quoted = &text["string ".len()..];
                case.string = Some(quoted.trim()[1..quoted.trim().len() - 1].to_owned());
            }
            Some(text) if text.starts_with("range vector") => case.expected.push(line),
            Some(text) => match Expectation::parse(text) {
                Some(expected) => case.notes.push(expected),
                None => return Err(wrong(format!("not understood: {text}"))),
            },
            None => case.expected.push(line),
        }
    }
    Ok(case)
}

fn compare_instant(case: &Case<'_>, value: Value) -> Result<(), Miss> {
    match value {
        Value::String(text) => match &case.string {
            Some(expected) if *expected == text => Ok(()),
            _ => Err(wrong(format!("got the string {text:?}"))),
        },
        Value::Scalar(value) => match case.expected[..] {
            [line] if expand(line).is_some_and(|values| matches!(values[..], [Some(v)] if near(v, value))) => Ok(()),
            _ => Err(wrong(format!("got the scalar {value}"))),
        },
        Value::Vector(samples) => {
            let expected = expected_instant(&case.expected)?;
            let found: Vec<(Labels, f64)> = samples.into_iter().map(|sample| (sample.labels, sample.value)).collect();
            if case.ordered && !expected.iter().map(|(labels, _)| labels).eq(found.iter().map(|(labels, _)| labels)) {
                return Err(wrong(format!("line {}: order {found:?}", case.line)));
            }
            let at = |pairs: Vec<(Labels, f64)>| pairs.into_iter().map(|(labels, v)| (labels, vec![(0, v)])).collect();
            compare_series(at(expected), at(found))
        }
        Value::Matrix(series) => {
            let Some((head, lines)) = case.expected.split_first() else { return Err(wrong("got a matrix")) };
            let words: Vec<&str> = head.split_whitespace().collect();
            let ["expect", "range", "vector", "from", from, "to", _, "step", step] = words[..] else {
                return Err(wrong("got a matrix"));
            };
            let (Some(from), Some(step)) = (milliseconds(from), milliseconds(step)) else {
                return Err(wrong("bad times"));
            };
            let expected = expected_range(lines, from, step)?;
            compare_series(expected, series.into_iter().map(|series| (series.labels, series.samples)).collect())
        }
    }
}

fn expected_instant(lines: &[&str]) -> Result<Vec<(Labels, f64)>, Miss> {
    let mut expected = Vec::new();
    for line in lines {
        let (labels, values) = series_line(line).ok_or_else(|| wrong(format!("expectation {line}")))?;
        match expand(values).as_deref() {
            Some([Some(value)]) => expected.push((labels, *value)),
            _ => return Err(wrong(format!("expectation {line}"))),
        }
    }
    Ok(expected)
}

type SeriesList = Vec<(Labels, Vec<(i64, f64)>)>;

fn expected_range(lines: &[&str], from: i64, step: i64) -> Result<SeriesList, Miss> {
    let mut expected = Vec::new();
    for line in lines {
        let (labels, values) = series_line(line).ok_or_else(|| wrong(format!("expectation {line}")))?;
        let values = expand(values).ok_or_else(|| wrong(format!("expectation {line}")))?;
        let samples = values.iter().enumerate().filter_map(|(at, value)| Some((from + at as i64 * step, (*value)?)));
        let samples: Vec<(i64, f64)> = samples.collect();
        if !samples.is_empty() {
            expected.push((labels, samples));
        }
    }
    Ok(expected)
}

fn compare_series(mut expected: SeriesList, mut found: SeriesList) -> Result<(), Miss> {
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let same_samples = |a: &[(i64, f64)], b: &[(i64, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
    };
    let same = expected.len() == found.len()
        && expected.iter().zip(&found).all(|(a, b)| a.0 == b.0 && same_samples(&a.1, &b.1));
    if same { Ok(()) } else { Err(wrong(format!("\n  expected {expected:?}\n  found    {found:?}"))) }
}

fn near(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    a == b || (a - b).abs() / (a.abs() + b.abs()).min(f64::MAX) < 1e-6 || (a - b).abs() < f64::MIN_POSITIVE
}

/// `name{a="b"} values`, name and braces both optional.
fn series_line(line: &str) -> Option<(Labels, &str)> {
    let end = match line.find('{') {
        Some(brace) if !line[..brace].contains([' ', '\t']) => closing_brace(line, brace)? + 1,
        _ => line.find([' ', '\t'])?,
    };
    let (selector, values) = line.split_at(end);
    let (name, inside) = selector.split_once('{').unwrap_or((selector, "}"));
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    if !name.is_empty() {
        pairs.push((Arc::from("__name__"), Arc::from(name)));
    }
    let inside = inside.strip_suffix('}')?.trim();
    if !inside.is_empty() {
        // The engine's parser reads the label set as matchers; `__y__` keeps it content if all values are empty.
        let query = Query::parse(&format!("{{{},__y__=~\"y\"}}", inside.trim_end_matches(','))).ok()?;
        let (matchers, _) = query.lookback().into_iter().next()?;
        let kept = matchers.matchers.into_iter().filter(|matcher| matcher.name != "__y__");
        pairs.extend(kept.map(|matcher| (Arc::from(matcher.name.as_str()), Arc::from(matcher.value.as_str()))));
    }
    Some((Labels::new(pairs), values.trim()))
}

fn closing_brace(line: &str, from: usize) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices().skip(from) {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// `1 2x3 _ _x5 stale 0+10x10`; none if it has native histograms.
fn expand(text: &str) -> Option<Vec<Option<f64>>> {
    if text.contains("{{") {
        return None;
    }
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        if word == "stale" {
            values.push(Some(f64::from_bits(STALE_NAN_BITS)));
            continue;
        }
        let (head, times) = match word.rsplit_once('x') {
            Some((head, times)) => (head, Some(times.parse::<usize>().ok()?)),
            None => (word, None),
        };
        if head == "_" {
            values.extend(vec![None; times.unwrap_or(1)]);
            continue;
        }
        let Some(times) = times else {
            values.push(Some(number(head)?));
            continue;
        };
        // The sign between start and increment; not the first character, not an exponent's.
        let sign = head
            .char_indices()
            .skip(1)
            .find(|(at, c)| matches!(c, '+' | '-') && !matches!(head.as_bytes()[at - 1], b'e' | b'E'));
        let (start, increment) = match sign {
            Some((at, _)) => (number(&head[..at])?, number(&head[at..])?),
            None => (number(head)?, 0.0),
        };
        let mut value = start;
        for _ in 0..=times {
            values.push(Some(value));
            value += increment;
        }
    }
    Some(values)
}

fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16));
    match digits {
        Some(hex) => hex.ok().map(|hex| hex as f64),
        None => text.parse().ok(),
    }
}

/// `1h30m`, `10`, `-5m`, `50.5s`; a bare number is seconds.
fn milliseconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some((seconds * 1000.0).round() as i64);
    }
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if matches!(text, "0ms" | "0s" | "0m" | "0h") {
        return Some(0);
    }
    let duration = promql_parser::util::parse_duration(text).ok()?;
    Some(sign * i64::try_from(duration.as_millis()).ok()?)
}
