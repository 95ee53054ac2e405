//! Tests of the history: its rules one by one, and one property: what a query reads from runs is what it would read
//! from single samples.

use super::*;
use crate::config::site::Keep;
use crate::metrics::columns::{service, service_checks};
use crate::promql::{self, Query, Run, STALE_NAN_BITS, SampleSeries, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn config() -> site::History {
    site::History {
        tick: Duration::from_secs(15),
        window: Duration::from_secs(300),
        keep: Vec::new(),
        max_memory: 1 << 30,
        ..site::History::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied())
}

fn query(history: &History, text: &str, now: Timestamp) -> Vec<(String, f64)> {
    let query = Query::parse(text).unwrap();
    match promql::instant(&history.read(), &query, now.as_millisecond()).unwrap() {
        Value::Vector(samples) => samples.into_iter().map(|s| (s.labels.to_string(), s.value)).collect(),
        other => panic!("{other:?}"),
    }
}

fn up(metrics: &Metrics, id: &str, value: f64) -> crate::metrics::Row {
    let table = metrics.table(service::TABLE);
    let row = table.row(&["tam-ky", id, "portal"]);
    table.set(row, service::UP, value);
    row
}

#[test]
fn the_marker_of_the_engine_is_the_marker_of_the_metrics() {
    assert_eq!(STALE_NAN_BITS, crate::metrics::STALE_NAN_BITS);
}

#[test]
fn sampled_series_are_read_back_and_end_with_their_row() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    let row = up(&metrics, "dvc", 1.0);
    history.sample(&metrics, at(0));
    history.sample(&metrics, at(15));
    up(&metrics, "dvc", 0.0);
    history.sample(&metrics, at(30));
    let series = "ioc_service_up{agency=\"tam-ky\", kind=\"portal\", service=\"dvc\"}".to_owned();
    assert_eq!(query(&history, "ioc_service_up == 0", at(31)), [(series.clone(), 0.0)]);
    assert_eq!(query(&history, "ioc_service_up{service=\"dvc\"}", at(29)), [(series.clone(), 1.0)]);
    assert_eq!(query(&history, "sum(avg_over_time(ioc_service_up[1m]))", at(30))[0].1, 2.0 / 3.0);
    metrics.table(service::TABLE).remove(row);
    up(&metrics, "other", 1.0);
    history.sample(&metrics, at(45));
    assert_eq!(query(&history, "ioc_service_up{service=\"dvc\"}", at(46)), []);
    assert_eq!(query(&history, "count(ioc_service_up)", at(46))[0].1, 1.0);
    up(&metrics, "dvc", 1.0);
    history.sample(&metrics, at(60));
    assert_eq!(query(&history, "ioc_service_up{service=\"dvc\"}", at(60)), [(series, 1.0)]);
    assert_eq!(query(&history, "sum(count_over_time(ioc_service_up{service=\"dvc\"}[5m]))", at(60))[0].1, 4.0);
}

#[test]
fn the_crates_own_families_are_sampled_with_their_buckets() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    metrics.own.emails.with_label_values(&["sent"]).inc_by(3);
    metrics.own.store_commit.observe(0.05);
    history.sample(&metrics, at(0));
    assert_eq!(query(&history, "ioc_emails_total", at(0)), [("ioc_emails_total{result=\"sent\"}".into(), 3.0)]);
    let bucket = "ioc_store_commit_seconds_bucket{le=\"0.1\"}";
    assert_eq!(query(&history, bucket, at(0)), [(bucket.to_owned(), 1.0)]);
    assert_eq!(query(&history, "histogram_quantile(1, ioc_store_commit_seconds_bucket)", at(0))[0].1, 0.1);
    metrics.own.emails.reset();
    history.sample(&metrics, at(15));
    assert_eq!(query(&history, "ioc_emails_total", at(15)), []);
    history.sample(&metrics, at(30));
    assert!(metrics.own.history_series.get() > 10 && metrics.own.history_bytes.get() > 1_000);
}

#[test]
fn recorded_series_stand_at_their_evaluation_and_end_when_they_are_not_recorded() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    up(&metrics, "dvc", 1.0);
    history.sample(&metrics, at(0));
    let (a, b) = (labels(&[("__name__", "r"), ("x", "a")]), labels(&[("__name__", "r"), ("x", "b")]));
    history.record("g/r", &mut [(a.clone(), 1.0), (b.clone(), 2.0)], at(7));
    assert_eq!(query(&history, "sum(r)", at(7))[0].1, 3.0);
    history.record("g/r", &mut [(a.clone(), 1.0)], at(37));
    assert_eq!(query(&history, "r", at(37)), [("r{x=\"a\"}".into(), 1.0)]);
    assert_eq!(query(&history, "sum(r)", at(36))[0].1, 3.0);
    assert_eq!(query(&history, "timestamp(r)", at(40)), [("{x=\"a\"}".into(), 1_000_037.0)]);
    // Somebody else's series is refused, an ended one may be taken over.
    history.record("g/other", &mut [(a.clone(), 9.0), (b, 9.0)], at(38));
    assert_eq!(query(&history, "sort(r)", at(38)), [("r{x=\"a\"}".into(), 1.0), ("r{x=\"b\"}".into(), 9.0)]);
    history.record("g/r", &mut [], at(50));
    assert_eq!(query(&history, "r{x=\"a\"}", at(50)), []);
    history.record("g/r", &mut [(a, 4.0)], at(49));
    assert_eq!(query(&history, "r{x=\"a\"}", at(50)), [("r{x=\"a\"}".into(), 4.0)], "the clock was set back");
    assert_eq!(query(&history, "sum(count_over_time(ioc_service_up[1m]))", at(50))[0].1, 1.0);
}

#[test]
fn what_is_recorded_is_shown_while_it_lasts_and_ends_with_its_owner() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    up(&metrics, "dvc", 1.0);
    history.sample(&metrics, at(0));
    let series = |name: &str, x: &str| labels(&[("__name__", name), ("x", x)]);
    history.record("g/b", &mut [(series("r:b", "2"), 2.0), (series("r:b", "1"), 1.0)], at(0));
    history.record("g/a", &mut [(series("r:a", "1"), 3.0)], at(1));
    let shown = |now: i64| history.recorded(at(now)).iter().map(|(l, v)| format!("{l} {v}")).collect::<Vec<_>>();
    assert_eq!(shown(2), ["r:a{x=\"1\"} 3", "r:b{x=\"1\"} 1", "r:b{x=\"2\"} 2"]);
    // A reload without the second rule.
    history.end_owners_except(&BTreeSet::from(["g/a".to_owned()]), at(3));
    assert_eq!(shown(3), ["r:a{x=\"1\"} 3"]);
    assert_eq!(query(&history, "r:b", at(3)), []);
    assert_eq!(query(&history, "r:a", at(3)).len(), 1);
    assert_eq!(shown(301), [""; 0], "not recorded for longer than a query looks back");
}

#[test]
fn a_clock_that_jumps_back_neither_repeats_nor_reorders_ticks() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    up(&metrics, "dvc", 1.0);
    for seconds in [0, 15, 15, 3, 30] {
        history.sample(&metrics, at(seconds));
    }
    assert_eq!(query(&history, "sum(count_over_time(ioc_service_up[5m]))", at(30))[0].1, 3.0);
}

#[test]
fn a_clock_that_is_set_back_forgets_the_future_and_goes_on() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    let rule = |value: f64, now| history.record("r", &mut [(labels(&[("__name__", "r")]), value)], now);
    let steady = up(&metrics, "steady", 1.0);
    up(&metrics, "turns", 1.0);
    let first = up(&metrics, "first", 1.0);
    history.sample(&metrics, at(0));
    rule(1.0, at(0));
    // Two minutes of another time: one turns, one ends, one begins.
    metrics.table(service::TABLE).remove(first);
    up(&metrics, "turns", 0.0);
    let late = up(&metrics, "late", 1.0);
    history.sample(&metrics, at(120));
    rule(2.0, at(120));
    metrics.table(service::TABLE).remove(late);
    up(&metrics, "new", 1.0);
    for seconds in [15, 30] {
        history.sample(&metrics, at(seconds));
        rule(3.0, at(seconds));
    }
    let of = |text: &str, now| query(&history, text, at(now)).first().map(|(_, value)| *value);
    let counted = |id: &str| of(&format!("count_over_time(ioc_service_up{{service=\"{id}\"}}[5m])"), 200);
    assert_eq!(
        ["steady", "turns", "first", "late", "new"].map(counted),
        [Some(3.0), Some(3.0), Some(1.0), None, Some(2.0)]
    );
    assert_eq!(of("ioc_service_up{service=\"turns\"}", 10), Some(1.0));
    assert_eq!(of("ioc_service_up{service=\"turns\"}", 20), Some(0.0));
    assert_eq!(of("changes(ioc_service_up{service=\"turns\"}[5m])", 30), Some(1.0));
    assert_eq!(of("sum_over_time(r[5m])", 200), Some(7.0));
    // What goes on as it was goes on being told apart.
    metrics.table(service::TABLE).remove(steady);
    history.sample(&metrics, at(45));
    assert_eq!(of("count(ioc_service_up)", 50), Some(2.0));
}

#[test]
fn a_time_without_sampling_has_no_samples() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    up(&metrics, "dvc", 1.0);
    history.sample(&metrics, at(0));
    history.sample(&metrics, at(3_600));
    assert_eq!(query(&history, "ioc_service_up", at(1_800)), []);
    assert_eq!(query(&history, "ioc_service_up", at(3_600)).len(), 1);
}

#[test]
fn series_are_kept_as_long_as_their_readers_need_and_no_longer() {
    let mut config = config();
    config.keep.push(Keep { selector: "ioc_service_checks_total".into(), keep: Duration::from_secs(7_200) });
    let (history, metrics) = (History::new(&config), Metrics::new());
    let read = Query::parse("max_over_time(ioc_service_up{service=\"long\"}[1h])").unwrap();
    history.set_retention(&config, &Need::of(&read, "test"));
    let checks = metrics.table(service_checks::TABLE);
    let check = checks.row(&["tam-ky", "dvc", "portal", "ok"]);
    let gone = up(&metrics, "gone", 1.0);
    for tick in 0..1_000 {
        up(&metrics, "short", f64::from(tick));
        up(&metrics, "long", f64::from(tick));
        checks.add(check, service_checks::CHECKS, 1.0);
        history.sample(&metrics, at(i64::from(tick) * 15));
        if tick == 500 {
            metrics.table(service::TABLE).remove(gone);
        }
    }
    let now = at(999 * 15);
    let count = |text: &str| query(&history, &format!("sum(count_over_time({text}[5h]))"), now)[0].1;
    assert!((240.0..300.0).contains(&count("ioc_service_up{service=\"long\"}")));
    assert!((480.0..540.0).contains(&count("ioc_service_checks_total")));
    // The window, and at most what comes between two trimmings.
    assert!((20.0..70.0).contains(&count("ioc_service_up{service=\"short\"}")));
    assert_eq!(query(&history, "sum(count_over_time(ioc_service_up{service=\"gone\"}[5h]))", now), []);
    assert_eq!(query(&history, "sum(max_over_time(ioc_service_up{service=\"long\"}[1h]))", now)[0].1, 999.0);
    assert!(history.read().inner.store.bytes() < 100_000);
}

#[test]
fn a_full_history_keeps_what_it_has_and_refuses_new_series() {
    let (history, metrics) = (History::new(&site::History { max_memory: 30_000, ..config() }), Metrics::new());
    for service in 0..1_000 {
        up(&metrics, &service.to_string(), 1.0);
    }
    history.sample(&metrics, at(0));
    let known = query(&history, "count(ioc_service_up)", at(0))[0].1;
    assert!((10.0..500.0).contains(&known), "{known}");
    for tick in 1..20 {
        history.sample(&metrics, at(tick * 15));
    }
    let later = query(&history, "count(ioc_service_up)", at(285))[0].1;
    assert!((known..500.0).contains(&later), "{known} {later}");
    assert!(history.read().inner.store.bytes() < 31_000);
}

#[test]
fn a_subject_that_leaves_its_row_is_remembered_and_goes_on_when_it_comes_back() {
    let (history, metrics) = (History::new(&config()), Metrics::new());
    let table = metrics.table(service::TABLE);
    let (first, _) = (up(&metrics, "first", 1.0), up(&metrics, "second", 1.0));
    history.sample(&metrics, at(0));
    table.remove(first);
    // Its row is another's at once.
    up(&metrics, "third", 0.0);
    history.sample(&metrics, at(15));
    let now = |second: i64| query(&history, "count(ioc_service_up)", at(second))[0].1;
    assert_eq!(now(15), 2.0);
    up(&metrics, "first", 2.0);
    history.sample(&metrics, at(30));
    assert_eq!(now(30), 3.0);
    let past = query(&history, "count_over_time(ioc_service_up{service=\"first\"}[5m])", at(30));
    assert_eq!(past[0].1, 2.0, "0 and 30, one series");
    assert_eq!(history.read().inner.store.series().filter(|series| series.labels.get("service") == "first").count(), 1);
    // Whoever records under a table's name is refused.
    let mut stranger = [(Labels::new([("__name__", "ioc_service_up"), ("service", "x")]), 1.0)];
    history.record("rule", &mut stranger, at(30));
    assert_eq!(now(30), 3.0);
}

/// Every sample a run of its own, on its series' own ticks.
#[derive(Default)]
struct Expanded {
    samples: BTreeMap<Labels, Vec<(i64, f64)>>,
    frozen: Vec<(Labels, Vec<i64>, Vec<Run>)>,
}

impl Expanded {
    /// A tick at which these series have samples; the others become stale.
    fn tick(&mut self, now: Timestamp, present: &[(Labels, f64)]) {
        let now = now.as_millisecond();
        for (labels, value) in present {
            self.samples.entry(labels.clone()).or_default().push((now, *value));
        }
        for samples in self.samples.values_mut() {
            let (last, value) = samples[samples.len() - 1];
            if last < now && value.to_bits() != STALE_NAN_BITS {
                samples.push((now, f64::from_bits(STALE_NAN_BITS)));
            }
        }
    }

    fn freeze(&mut self) {
        let freeze = |(labels, samples): (&Labels, &Vec<(i64, f64)>)| {
            let runs = samples.iter().enumerate().map(|(from, (_, value))| Run { from: from as u32, value: *value });
            (labels.clone(), samples.iter().map(|(time, _)| *time).collect(), runs.collect())
        };
        self.frozen = self.samples.iter().map(freeze).collect();
    }
}

impl Storage for Expanded {
    fn select<'s>(&'s self, matchers: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
        for (labels, ticks, runs) in &self.frozen {
            if matchers.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name))) {
                each(Series { labels: labels.view(), ticks, runs: promql::Runs::Kept(runs) });
            }
        }
    }
}

const QUERIES: &[&str] = &[
    "ioc_service_up",
    "timestamp(ioc_service_up)",
    "ioc_service_up offset 20s",
    "sum_over_time(ioc_service_up[1m])",
    "avg_over_time(ioc_service_up[100s] offset 15s)",
    "count_over_time(ioc_service_up[2m])",
    "stddev_over_time(ioc_service_up[2m])",
    "quantile_over_time(0.3, ioc_service_up[2m])",
    "changes(ioc_service_up[2m])",
    "resets(ioc_service_up[2m])",
    "increase(ioc_service_up[2m])",
    "irate(ioc_service_up[1m])",
    "deriv(ioc_service_up[3m])",
    "max_over_time(ioc_service_up[2m:7s])",
    "absent_over_time(ioc_service_up{service=\"a\"}[1m])",
    "last_over_time(ioc_service_up[40s]) - on(service) min_over_time(ioc_service_up[1m])",
];

fn same(a: &[SampleSeries], b: &[SampleSeries]) -> bool {
    let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-9 * (1.0 + a.abs());
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.labels == b.labels
                && a.samples.len() == b.samples.len()
                && a.samples.iter().zip(&b.samples).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Per tick: seconds since the one before, and for each of three services its value, or nothing.
    #[test]
    fn queries_over_runs_equal_queries_over_samples(
        ticks in prop::collection::vec((1_i64..40, prop::array::uniform3(prop::option::of(0_u8..3))), 1..60),
        step in 3_i64..50,
    ) {
        // A window below the test's whole time trims; the expanded samples know nothing of it.
        let config = site::History { window: Duration::from_secs(400), ..config() };
        let (history, metrics) = (History::new(&config), Metrics::new());
        let mut expanded = Expanded::default();
        let table = metrics.table(service::TABLE);
        let mut seconds = 0;
        for (pause, values) in &ticks {
            seconds += pause;
            let mut present = Vec::new();
            for (id, value) in ["a", "b", "c"].iter().zip(values) {
                let row = table.row(&["tam-ky", id, "portal"]);
                match value {
                    Some(value) => {
                        let value = f64::from(*value);
                        table.set(row, service::UP, value);
                        let name = ("__name__", "ioc_service_up");
                        let pairs = [name, ("agency", "tam-ky"), ("service", id), ("kind", "portal")];
                        present.push((labels(&pairs), value));
                    }
                    None if pause % 2 == 0 => table.remove(row),
                    None => table.clear(row, service::UP),
                }
            }
            history.sample(&metrics, at(seconds));
            expanded.tick(at(seconds), &present);
        }
        expanded.freeze();
        let (from, to) = (at(seconds - 100).as_millisecond(), at(seconds + 30).as_millisecond());
        for text in QUERIES {
            let query = Query::parse(text).unwrap();
            let runs = promql::range(&history.read(), &query, from, to, step * 1_000).unwrap();
            let samples = promql::range(&expanded, &query, from, to, step * 1_000).unwrap();
            prop_assert!(same(&runs, &samples), "{text}\n{runs:?}\n{samples:?}");
        }
    }
}

#[test]
fn what_is_too_old_makes_room_before_a_trimming_and_what_does_not_change_needs_none() {
    let retention = Retention::new(&config(), &[]);
    let mut store = Store::new(1 << 30);
    let clock = store.add_clock();
    let mut series = |name: &str| {
        let id = store.find_or_add(clock, &labels(&[("__name__", name)]), &retention).unwrap();
        (id, store.bytes())
    };
    let ((steady, _), (turning, empty)) = (series("steady"), series("turning"));
    let runs = |store: &Store, name: &str| -> Vec<Run> {
        store.series().find(|series| series.labels.name() == name).unwrap().runs.iter().collect()
    };
    for second in 0..1_000 {
        let tick = store.tick(clock, second * 15_000).unwrap();
        store.push(steady, tick, 1.0);
        store.push(turning, tick, second as f64);
        // The window, the margin of two ticks, and a quarter for the next.
        let kept = runs(&store, "turning");
        assert!(kept.len() <= (20 + 2) * 5 / 4 + 4, "{}", kept.len());
        let wanted = kept.len().min(22);
        let newest: Vec<u32> = kept.iter().rev().take(wanted).map(|run| run.from).collect();
        assert_eq!(newest, (0..wanted as u32).map(|back| tick - back).collect::<Vec<_>>());
    }
    assert_eq!(runs(&store, "steady"), [Run { from: 0, value: 1.0 }]);
    // Ticks apart.
    assert!(store.bytes() - empty < 1_000 * 8 * 2 + 1_000, "{}", store.bytes() - empty);
    // A turn, and once it is past the window one value again.
    let tick = store.tick(clock, 15_000_000).unwrap();
    store.push(steady, tick, 2.0);
    assert_eq!(runs(&store, "steady").len(), 2);
    store.tick(clock, 16_000_000).unwrap();
    store.trim();
    let left = runs(&store, "steady");
    assert_eq!((left.len(), left[0].value), (1, 2.0));
}
