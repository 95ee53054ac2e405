//! Random expressions over random series: the embedded engine and a real Prometheus give the same.
//!
//! `PROMQL_CASES` says how many (default 300), `PROMQL_SEED` where to begin; the seed is printed, and a failure is shrunk.
//! Debian's Prometheus is 2.42, ours speaks as 3. What must differ, by name, and how it is kept apart:
//!
//! - *left-closed ranges*: samples lie off the grid of seconds, queries seven seconds past a quarter of a minute, and
//!   subqueries are offset by three seconds, so that nothing falls on a border;
//! - *delayed name removal*: where 2.42 fails with the "same labelset" of names dropped at once, nothing is compared;
//! - *ties*: which of equal elements `topk` and `bottomk` choose is nobody's promise, so they choose among distinct ones;
//! - *extrapolation to zero*: of a counter that begins within the window; counters here begin before all windows;
//! - *filtered matches*: we find a second match for a partner before a comparison filters it away, 2.42 after;
//! - *names after `atan2`*: 2.42 keeps them, so they are not compared;
//! - *deviation of one NaN or infinity*: NaN for us, 0 in 2.42, so `stddev` and `stdvar` are of finite numbers;
//! - *a parameter beside a fixed window*: 2.42 moves the window of `@` with the steps of a range query if the function has
//!   another argument that changes, so `predict_linear` has no `@`, and `quantile_over_time` then a constant;
//! - *remainders of powers*: `^` makes the last bits of a sum the first that `%` shows, so such are compared only if equal;
//! - *quantiles on the border of a bucket*: the last bits of a sum choose among empty buckets, so no number of observations
//!   puts one there;
//! - *a φ with a fixed window*: the same in an aggregation: `quantile(scalar(x @ T), v)` has another φ at each step of a
//!   range query of 2.42, although `scalar(x @ T)` alone is the same at all of them; such a `quantile` is compared only if
//!   equal;
//! - *dates of NaN*: 2.42 gives the parts of whatever NaN is as an integer; dates here are of numbers.

use crate::support::prometheus::Prometheus;
use crate::support::{encode, get};
use ioc_watch::promql::{self, Labels, Query, Run, Runs, Series, Storage, Value};
use promql_parser::label::Matchers;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Milliseconds; a whole number of minutes.
const START: i64 = 1_700_000_040_000 / 60_000 * 60_000;
const TICK: i64 = 15_000;
/// After the seconds' grid.
const OFF_GRID: i64 = 3_217;
const TICKS: i64 = 320;

struct Data(Vec<(Labels, Vec<i64>, Vec<Run>)>);

impl Storage for Data {
    fn select<'s>(&'s self, matchers: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
        for (labels, ticks, runs) in &self.0 {
            if matchers.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name))) {
                each(Series { labels: labels.view(), ticks, runs: Runs::Kept(runs) });
            }
        }
    }
}

/// A small generator of our own for the samples: the same for a seed, whatever proptest does.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// `g`: a gauge with gaps; `d`: distinct values; `f`: 0 and 1; `s`: with NaN and infinities; `c_total`: a counter with
/// resets; `h_bucket`: a classic histogram.
fn series(seed: u64) -> Data {
    let mut dice = Dice(seed | 1);
    let mut found = Vec::new();
    for (index, (a, b)) in (1_i32..).zip([("x", "1"), ("x", "2"), ("y", "1"), ("z", "")]) {
        for name in ["g", "d", "f", "s", "c_total"] {
            let mut value = 1_000.0;
            found.push(one(&[("__name__", name), ("a", a), ("b", b)], |tick| {
                value = match name {
                    "g" if tick % 40 > 25 && dice.below(3) > 0 => return None,
                    "g" => dice.below(40) as f64 - 12.5,
                    "d" => f64::from(index) + (tick * 7) as f64,
                    "f" => {
                        if dice.below(9) == 0 {
                            1.0 - value.min(1.0)
                        } else {
                            value.min(1.0)
                        }
                    }
                    "s" => {
                        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.5, 1e9, -3.0][dice.below(8) as usize]
                    }
                    _ if dice.below(30) == 0 => 0.0,
                    _ => value + dice.below(20) as f64,
                };
                Some(value)
            }));
        }
        let mut counts = [0.0; 4];
        let bounds = ["0.1", "0.5", "2", "+Inf"];
        let observed: Vec<[f64; 4]> = (0..TICKS)
            .map(|_| {
                let at = dice.below(4) as usize;
                counts.iter_mut().skip(at).for_each(|count| *count += 1.0);
                counts
            })
            .collect();
        for (bound, le) in bounds.iter().enumerate() {
            let labels = [("__name__", "h_bucket"), ("a", a), ("b", b), ("le", *le)];
            found.push(one(&labels, |tick| Some(observed[tick as usize][bound])));
        }
    }
    Data(found)
}

fn one(labels: &[(&str, &str)], mut value: impl FnMut(i64) -> Option<f64>) -> (Labels, Vec<i64>, Vec<Run>) {
    let labels = Labels::new(labels.iter().copied());
    let (mut ticks, mut runs): (Vec<i64>, Vec<Run>) = (Vec::new(), Vec::new());
    for tick in 0..TICKS {
        if let Some(value) = value(tick) {
            if runs.last().is_none_or(|last| last.value.to_bits() != value.to_bits()) {
                runs.push(Run { from: ticks.len() as u32, value });
            }
            ticks.push(START + tick * TICK + OFF_GRID);
        }
    }
    (labels, ticks, runs)
}

/// What `promtool tsdb create-blocks-from openmetrics` reads.
fn open_metrics(data: &Data) -> String {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for (labels, ticks, runs) in &data.0 {
        let pairs = labels.iter().filter(|(name, _)| **name != *"__name__");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value:?}")).collect();
        let lines = families.entry(labels.name()).or_default();
        for (index, at) in ticks.iter().enumerate() {
            let run = runs.iter().rev().find(|run| run.from as usize <= index).expect("a run");
            let value = promql::format_value(run.value);
            let _ = writeln!(lines, "{}{{{}}} {value} {}.{:03}", labels.name(), pairs.join(","), at / 1000, at % 1000);
        }
    }
    families.values().map(String::as_str).collect::<String>() + "# EOF\n"
}

type Text = BoxedStrategy<String>;

fn texts(list: &'static [&'static str]) -> Text {
    select(list).prop_map(str::to_owned).boxed()
}

fn selector(names: &'static [&'static str]) -> Text {
    let matchers =
        texts(&["", "{a=\"x\"}", "{b!=\"1\"}", "{a=~\"x|y\"}", "{a!~\"y.*\"}", "{b=\"\"}", "{a=\"x\",b=~\"[12]\"}"]);
    (texts(names), matchers).prop_map(|(name, matchers)| format!("{name}{matchers}")).boxed()
}

/// `offset` and `@`, with times that keep off the borders.
fn shift() -> Text {
    prop_oneof![
        6 => Just(String::new()),
        1 => texts(&[" offset 1m", " offset 5m", " offset -2m", " offset 90s"]),
        1 => texts(&[" @ end()", " @ start()", " @ 1700003047", " @ start() offset 1m"]),
    ]
    .boxed()
}

const PLAIN: &[&str] = &["g", "d", "f", "c_total", "s"];

fn range_of(vector: &Text) -> Text {
    let range = texts(&["[5m]", "[1m]", "[40s]", "[9m]"]);
    let plain = (selector(PLAIN), range, shift()).prop_map(|(s, range, shift)| format!("{s}{range}{shift}"));
    let steps = texts(&["[5m:1m]", "[10m:30s]", "[3m:15s]"]);
    let subquery = (vector.clone(), steps).prop_map(|(inner, steps)| format!("({inner}){steps} offset 3s"));
    prop_oneof![3 => plain, 1 => subquery].boxed()
}

fn scalar(vector: &Text) -> Text {
    prop_oneof![
        4 => texts(&["0", "1", "2.5", "-3", "NaN", "+Inf", "1e3", "0x1F", "(1 + 2 ^ 3 ^ 0.5)", "-2 ^ 2", "7 % 4 - 3"]),
        1 => texts(&["time()", "pi()", "(time() - 1700000000)", "(1 < bool 2)"]),
        1 => vector.clone().prop_map(|inner| format!("scalar({inner})")),
    ]
    .boxed()
}

fn call(vector: &Text) -> Text {
    let scalar = scalar(vector);
    let range = range_of(vector);
    let of_one = texts(&[
        "abs",
        "ceil",
        "floor",
        "exp",
        "sqrt",
        "ln",
        "log2",
        "log10",
        "sgn",
        "round",
        "absent",
        "sort",
        "sort_desc",
        "deg",
        "rad",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "timestamp",
        "-",
        "+",
    ]);
    let over = texts(&[
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "last_over_time",
        "present_over_time",
        "absent_over_time",
        "changes",
        "resets",
        "delta",
        "idelta",
        "deriv",
    ]);
    let rates =
        (texts(&["rate", "increase", "irate"]), selector(&["c_total"]), texts(&["[2m]", "[5m]", "[9m]"]), shift());
    let dates =
        texts(&["hour", "minute", "month", "year", "day_of_week", "day_of_month", "day_of_year", "days_in_month"]);
    let replaced = texts(&[
        r#""n", "$1-$2", "a", "(.)(.*)""#,
        r#""a", "", "b", "1""#,
        r#""b", "k", "a", "x|y""#,
        r#""n", "${1}", "b", "(?:(.))?""#,
    ]);
    prop_oneof![
        4 => (of_one, vector.clone()).prop_map(|(name, inner)| format!("{name}({inner})")),
        4 => (over, range.clone()).prop_map(|(name, range)| format!("{name}({range})")),
        3 => rates.prop_map(|(name, selector, range, shift)| format!("{name}({selector}{range}{shift})")),
        1 => (texts(&["clamp_min", "clamp_max", "round"]), vector.clone(), scalar.clone())
            .prop_map(|(name, inner, scalar)| format!("{name}({inner}, {scalar})")),
        1 => (vector.clone(), scalar.clone(), scalar.clone()).prop_map(|(v, a, b)| format!("clamp({v}, {a}, {b})")),
        1 => (scalar.clone(), range).prop_map(|(q, range)| {
            let q = if range.contains('@') { "0.3" } else { &q };
            format!("quantile_over_time({q}, {range})")
        }),
        1 => (selector(PLAIN), texts(&["[5m]", "[9m] offset 1m"]), scalar.clone())
            .prop_map(|(selector, range, s)| format!("predict_linear({selector}{range}, {s})")),
        1 => (dates, selector(&["g", "d"])).prop_map(|(name, s)| format!("{name}({s} * 86400)")),
        1 => (vector.clone(), replaced).prop_map(|(v, words)| format!("label_replace({v}, {words})")),
        1 => vector.clone().prop_map(|v| format!("label_join({v}, \"j\", \"-\", \"a\", \"b\")")),
        1 => scalar.clone().prop_map(|s| format!("vector({s})")),
        2 => (texts(&["0.53", "0.91", "0", "1", "-1", "2"]), texts(&["[2m]", "[9m]"]), texts(&["", "sum by (le) ", "sum by (le, a) "]))
            .prop_map(|(q, range, sum)| format!("histogram_quantile({q}, {sum}(rate(h_bucket{range})))")),
    ]
    .boxed()
}

fn aggregate(vector: &Text) -> Text {
    let by = texts(&["", " by (a)", " by (b)", " by (a, b)", " without (a)", " without (b)", " by ()", " by (nope)"]);
    let plain = texts(&["sum", "avg", "min", "max", "count", "group"]);
    let deviation = (texts(&["stddev", "stdvar"]), by.clone(), selector(&["g", "d", "f"]));
    let ranked = (texts(&["topk", "bottomk"]), texts(&["1", "2", "0", "9"]), by.clone(), selector(&["d"]));
    prop_oneof![
        6 => (plain, by.clone(), vector.clone()).prop_map(|(name, by, inner)| format!("{name}{by} ({inner})")),
        1 => deviation.prop_map(|(name, by, inner)| format!("{name}{by} ({inner})")),
        1 => ranked.prop_map(|(name, k, by, inner)| format!("{name}{by} ({k}, {inner})")),
        1 => (scalar(vector), by.clone(), vector.clone()).prop_map(|(q, by, v)| format!("quantile{by} ({q}, {v})")),
        1 => (by, selector(&["f", "g"])).prop_map(|(by, v)| format!("count_values{by} (\"v\", {v})")),
    ]
    .boxed()
}

fn binary(vector: &Text) -> Text {
    let scalar = scalar(vector);
    let arithmetic = texts(&["+", "-", "*", "/", "%", "^", "atan2"]);
    let comparison = texts(&["==", "!=", "<", "<=", ">", ">=", "== bool", "> bool", "<= bool"]);
    let operator = prop_oneof![arithmetic, comparison].boxed();
    let matching = texts(&[
        "",
        "",
        " on (a, b)",
        " ignoring (b)",
        " on (a)",
        " on (a) group_left",
        " on (b) group_right",
        " ignoring (b) group_left ()",
        " on (a) group_left (b)",
        " on ()",
    ]);
    let sets = (texts(&["and", "or", "unless"]), texts(&["", " on (a)", " ignoring (b)", " on ()"]));
    prop_oneof![
        3 => (vector.clone(), operator.clone(), scalar.clone()).prop_map(|(v, o, s)| format!("({v}) {o} {s}")),
        2 => (scalar, operator.clone(), vector.clone()).prop_map(|(s, o, v)| format!("{s} {o} ({v})")),
        4 => (vector.clone(), operator, matching, vector.clone()).prop_map(|(l, o, m, r)| format!("({l}) {o}{m} ({r})")),
        3 => (vector.clone(), sets, vector.clone()).prop_map(|(l, (o, m), r)| format!("({l}) {o}{m} ({r})")),
    ]
    .boxed()
}

fn vector(depth: u32) -> Text {
    let leaf = (selector(PLAIN), shift()).prop_map(|(selector, shift)| format!("{selector}{shift}")).boxed();
    if depth == 0 {
        return leaf;
    }
    let below = vector(depth - 1);
    prop_oneof![2 => leaf, 1 => below.clone(), 4 => call(&below), 3 => aggregate(&below), 4 => binary(&below)].boxed()
}

#[derive(Debug, Clone)]
enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

fn when() -> BoxedStrategy<When> {
    // 50 to 75 minutes after the first sample; some steps ask past the last.
    let at = (200_i64..330).prop_map(|quarter| START / 1000 + quarter * 15 + 7).boxed();
    let range = (at.clone(), 0_i64..8, select(&[15_i64, 60, 90][..]));
    prop_oneof![
        at.prop_map(When::Instant),
        range.prop_map(|(from, steps, step)| When::Range(from, from + steps * step, step)),
    ]
    .boxed()
}

type Found = BTreeMap<BTreeMap<String, String>, Vec<(i64, f64)>>;

fn ours(data: &Data, text: &str, when: &When) -> Result<Found, String> {
    let query = Query::parse(text).map_err(|error| error.to_string())?;
    let labels = |labels: &Labels| labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let one = |at, value| BTreeMap::from([(BTreeMap::new(), vec![(at, value)])]);
    match when {
        When::Instant(at) => match promql::instant(data, &query, at * 1000).map_err(|error| error.to_string())? {
            Value::Scalar(value) => Ok(one(*at * 1000, value)),
            Value::Vector(samples) => {
                Ok(samples.iter().map(|s| (labels(&s.labels), vec![(*at * 1000, s.value)])).collect())
            }
            other => Err(format!("{other:?}")),
        },
        When::Range(from, to, step) => {
            let found = promql::range(data, &query, from * 1000, to * 1000, step * 1000);
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.into_iter().map(|series| (labels(&series.labels), series.samples)).collect())
        }
    }
}

fn theirs(port: u16, text: &str, when: &When) -> Result<Found, String> {
    let query = encode(text);
    let path = match when {
        When::Instant(at) => format!("/api/v1/query?query={query}&time={at}"),
        When::Range(from, to, step) => format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={step}"),
    };
    let (status, body) = get(port, &path).map_err(|error| error.to_string())?;
    let answer: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(answer["error"].as_str().unwrap_or_default().to_owned());
    }
    let point = |point: &serde_json::Value| {
        let at = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
        (at, point[1].as_str().expect("a value").parse().expect("a number"))
    };
    let data = &answer["data"];
    if data["resultType"] == "scalar" {
        return Ok(BTreeMap::from([(BTreeMap::new(), vec![point(&data["result"])])]));
    }
    let series = data["result"].as_array().expect("a list").iter().map(|series| {
        let labels = series["metric"].as_object().expect("labels");
        let labels = labels.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
        let points = match series["values"].as_array() {
            Some(points) => points.iter().map(point).collect(),
            None => vec![point(&series["value"])],
        };
        (labels, points)
    });
    Ok(series.collect())
}

fn same(ours: &Found, theirs: &Found) -> bool {
    // Sums of squares lose digits in an order of their own.
    let near =
        |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(a, b)| {
            a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(b.1).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
        })
}

/// Two series that only their names tell apart become one.
fn without_names(found: Found) -> Found {
    let mut nameless = Found::new();
    for (mut labels, points) in found {
        labels.remove("__name__");
        let all = nameless.entry(labels).or_default();
        all.extend(points);
        all.sort_by_key(|(at, _)| *at);
    }
    nameless
}

/// Remainders of powers, and quantiles by a φ of which the window is fixed: see above.
fn is_anybodys_guess(text: &str) -> bool {
    (text.contains('^') && text.contains('%')) || ["quantile", "scalar(", "@"].iter().all(|part| text.contains(part))
}

/// What fails to compare, if it must not differ.
fn compare(data: &Data, port: u16, text: &str, when: &When) -> Result<bool, String> {
    let (mut ours, mut theirs) = (ours(data, text, when), theirs(port, text, when));
    if text.contains("atan2") {
        for found in [&mut ours, &mut theirs] {
            *found = std::mem::replace(found, Ok(Found::new())).map(without_names);
        }
    }
    match (ours, theirs) {
        (_, Err(error)) if error.contains("same labelset") => Ok(false),
        (Err(error), Ok(_)) if error.starts_with("multiple matches for labels") => Ok(false),
        (Err(_), Err(_)) => Ok(false),
        (Ok(ours), Ok(theirs)) if is_anybodys_guess(text) && !same(&ours, &theirs) => Ok(false),
        (Ok(ours), Ok(theirs)) if same(&ours, &theirs) => Ok(!ours.is_empty()),
        (ours, theirs) => Err(format!("{text}\n{when:?}\n  ours   {ours:?}\n  theirs {theirs:?}")),
    }
}

#[test]
fn random_expressions_give_what_prometheus_gives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let (cases, seed) = (number("PROMQL_CASES").unwrap_or(300), number("PROMQL_SEED").unwrap_or(clock));
    println!("PROMQL_SEED={seed} PROMQL_CASES={cases}");
    let data = series(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let prometheus = Prometheus::on_samples(directory.path(), &open_metrics(&data));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: cases as u32, max_shrink_iters: 2_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let telling = std::cell::Cell::new(0_u64);
    let outcome = runner.run(&(vector(3), when()), |(text, when)| {
        let told = compare(&data, prometheus.port, &text, &when).map_err(TestCaseError::fail)?;
        telling.set(telling.get() + u64::from(told));
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (text, when))) => panic!("PROMQL_SEED={seed}: {reason}\nshrunk to {text} {when:?}"),
        Err(error) => panic!("PROMQL_SEED={seed}: {error}"),
    }
    println!("{} of {cases} gave something", telling.get());
    assert!(telling.get() * 3 > cases, "too few expressions give anything: {} of {cases}", telling.get());
}
