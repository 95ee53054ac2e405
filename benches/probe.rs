//! The CPU that our own checks cost: `probe URL CA_FILE N CONCURRENCY` makes N checks through the prober of the daemon
//! and prints one JSON line. `benches/probe.py` runs it beside blackbox_exporter.

use ioc_watch::config::probes::{Probe, http::HttpProbe};
use ioc_watch::gather::service::{Check, CheckResult, Trust};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [url, ca_file, n, concurrency] = arguments.as_slice() else {
        // `cargo bench` without arguments, or a test run of all targets: nothing to measure against.
        println!("usage: probe URL CA_FILE N CONCURRENCY");
        return;
    };
    ioc_watch::install_tls_provider();
    let probe = HttpProbe { ca_file: Some(ca_file.into()), ..HttpProbe::get(url.parse().expect("a URL")) };
    let (n, concurrency): (usize, usize) = (n.parse().expect("a number"), concurrency.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let check = Arc::new(Check::compile(&Probe::Http(probe), &Trust::default()).await.expect("a usable CA file"));
        let (cpu, begin) = (cpu_seconds(), Instant::now());
        let next = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..concurrency)
            .map(|_| {
                let (check, next) = (check.clone(), next.clone());
                tokio::spawn(async move {
                    let mut ok = 0;
                    while next.fetch_add(1, Ordering::Relaxed) < n {
                        let outcome = check.run(Duration::from_secs(5)).await;
                        ok += usize::from(outcome.result == CheckResult::Ok && outcome.expiry.is_some());
                    }
                    ok
                })
            })
            .collect();
        let mut ok = 0;
        for worker in workers {
            ok += worker.await.expect("no panic");
        }
        let (cpu, wall) = (cpu_seconds() - cpu, begin.elapsed().as_secs_f64());
        println!("{{\"probes\": {n}, \"ok\": {ok}, \"cpu_s\": {cpu}, \"wall_s\": {wall:.3}}}");
    });
}

/// User and system time of this process, from /proc; a tick is 10 ms on every Linux that matters here.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let after = stat.rsplit(')').next().expect("a command name");
    let ticks: Vec<f64> =
        after.split_whitespace().skip(11).take(2).map(|field| field.parse().expect("ticks")).collect();
    ticks.iter().sum::<f64>() / 100.0
}
