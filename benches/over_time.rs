//! CPU of ranges over a week of history: `avg_over_time(ioc_device_up[7d])` and its like over 10,000 devices that went down
//! ten times each. `cargo bench --bench over_time`.
//!
//! The budget, 50 ms, is of the first of them.

use ioc_watch::config::site;
use ioc_watch::history::History;
use ioc_watch::metrics::{Metrics, columns::device};
use ioc_watch::promql::{self, Query, Value};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

const DEVICES: usize = 10_000;
/// Changes of each, down and up again.
const FLAPS: i64 = 20;
const TICK: i64 = 15;
const WEEK: i64 = 7 * 86_400;
const RUNS: usize = 9;

fn main() {
    let metrics = Metrics::new();
    let table = metrics.table(device::TABLE);
    let rows: Vec<_> = (0..DEVICES)
        .map(|number| {
            let row = table.row(&["tam-ky", "camera", &format!("site-{}", number / 10), &format!("camera-{number}")]);
            table.set(row, device::UP, 1.0);
            row
        })
        .collect();
    let window = Duration::from_secs(WEEK.unsigned_abs() + 3_600);
    let config = site::History { window, max_memory: 1 << 30, ..site::History::default() };
    let history = History::new(&config);
    let start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000);
    let n_ticks = WEEK / TICK;
    let every = n_ticks / FLAPS;
    for tick in 0..=n_ticks {
        for (number, row) in rows.iter().enumerate() {
            let place = tick + (number as i64 * 97) % every;
            if place % every == 0 {
                table.set(*row, device::UP, ((place / every) % 2) as f64);
            }
        }
        history.sample(&metrics, start + SignedDuration::from_secs(tick * TICK));
    }
    let bytes = metrics.own.history_bytes.get();
    println!("RESULT over_time: {DEVICES} series with {FLAPS} changes in {n_ticks} ticks, {bytes} bytes");
    let at = (start + SignedDuration::from_secs(WEEK)).as_millisecond();
    for function in ["avg_over_time", "changes", "min_over_time", "count_over_time", "sum_over_time"] {
        let query = Query::parse(&format!("{function}(ioc_device_up[7d])")).expect("a query");
        let mut used: Vec<f64> = (0..RUNS)
            .map(|_| {
                let before = cpu_ms();
                let value = promql::instant(&history.read(), &query, at).expect("a result");
                let used = cpu_ms() - before;
                let Value::Vector(samples) = value else { panic!("no vector") };
                assert_eq!(samples.len(), DEVICES);
                used
            })
            .collect();
        used.sort_by(f64::total_cmp);
        println!("RESULT over_time {function}: {:.1} ms CPU (median of {RUNS})", used[RUNS / 2]);
    }
}

/// CPU time of this thread, in milliseconds.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    nanoseconds / 1e6
}
