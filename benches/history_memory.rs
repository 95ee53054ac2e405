//! Memory of the history by series: what the process grows by, beside what the history says of itself and what `check`
//! would have said. `cargo bench --bench history_memory`.
//!
//! The metrics themselves are made before the first figure, so that only what remembers them is counted.

use ioc_watch::config::site;
use ioc_watch::history::{Crowd, Estimator, History, Values};
use ioc_watch::metrics::{Metrics, columns::device};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

const DEVICES: usize = 20_000;
/// An hour of a tick each 15 s, and what waits for the next trimming.
const TICKS: i64 = 600;

fn main() {
    for (name, changes_every) in [("static", i64::MAX), ("a change every 20 ticks", 20), ("a change every tick", 1)] {
        let metrics = Metrics::new();
        let table = metrics.table(device::TABLE);
        let rows: Vec<_> = (0..DEVICES)
            .map(|device| {
                let row =
                    table.row(&["tam-ky", "camera", &format!("site-{}", device / 10), &format!("camera-{device}")]);
                table.set(row, device::UP, 1.0);
                row
            })
            .collect();
        let config = site::History { window: Duration::from_secs(3_600), ..site::History::default() };
        let history = History::new(&config);
        let start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000);
        let before = resident();
        for tick in 0..TICKS {
            for (index, row) in rows.iter().enumerate() {
                if (tick + index as i64) % changes_every == 0 {
                    table.set(*row, device::UP, (tick % 7) as f64);
                }
            }
            history.sample(&metrics, start + SignedDuration::from_secs(15) * i32::try_from(tick).unwrap_or(0));
        }
        let grown = resident().saturating_sub(before);
        let said = u64::try_from(metrics.own.history_bytes.get()).unwrap_or(0);
        let mut estimator = Estimator::new(&config, &[]);
        let labels = ["agency", "kind", "site", "device"].map(|label| (label, None)).to_vec();
        let every = u32::try_from(changes_every).ok().map(|ticks| config.tick * ticks);
        let crowd = Crowd {
            metric: "ioc_device_up",
            labels,
            is_open: false,
            count: DEVICES as u64,
            every,
            values: Values::States,
        };
        estimator.add(&crowd);
        let estimated = estimator.finish().total();
        let each = |bytes: u64| bytes / DEVICES as u64;
        println!(
            "RESULT {name}: {} bytes a series resident, {} by the history's own account, {} as check estimates",
            each(grown),
            each(said),
            each(estimated)
        );
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}
