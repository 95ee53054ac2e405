//! Queries that mean harm, all at once, at the running daemon: each is refused, or answered, in bounded time and memory,
//! and the rules are evaluated on meanwhile.

use crate::site::{Site, number, query};
use crate::support::daemon::Daemon;
use crate::support::{encode, get, post, wait_for};
use std::time::{Duration, Instant};

/// Longer than the daemon gives any query, and than a slow machine needs.
const WITHIN: Duration = Duration::from_secs(15);
/// Kilobytes by which the daemon may have grown at its largest.
const GROWTH_KB: u64 = 150_000;

/// What it is, the path, and the body of a form if it is posted.
fn requests() -> Vec<(&'static str, String, Option<String>)> {
    let form = |text: &str| Some(format!("query={}", encode(text)));
    let query = "/api/v1/query".to_owned();
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    let regex = format!("count({{__name__=~\"{}x{}\"}})", "(".repeat(5), "{99})".repeat(5));
    let replace =
        format!("label_replace(vector(1), \"a\", \"$1\", \"b\", \"{}x{}\")", "(".repeat(5), "{99})".repeat(5));
    let deep = (0..150).fold("up".to_owned(), |inner, _| format!("max_over_time({inner}[10m:1s])"));
    vec![
        ("1 MB of operators", query.clone(), form(&vec!["up"; 250_000].join("+"))),
        ("1 MB in the address", format!("/api/v1/query?query={}", "a".repeat(1_000_000)), None),
        ("100,000 levels of parentheses", query.clone(), form(&nested(100_000))),
        ("100,000 signs", query.clone(), form(&format!("{}1", "-".repeat(100_000)))),
        ("100,000 open brackets", query.clone(), form(&"sum(".repeat(100_000))),
        ("8,000 levels, short enough", query.clone(), form(&nested(8_000))),
        ("1,000,000 steps", "/api/v1/query_range?query=up&start=0&end=1000000&step=1".into(), None),
        ("a huge regular expression", query.clone(), form(&regex)),
        ("a huge regular expression in label_replace", query.clone(), form(&replace)),
        ("a subquery of 10^12 steps", format!("{query}?timeout=2s"), form("sum_over_time(vector(1)[100y:1ms])")),
        ("150 subqueries in each other", format!("{query}?timeout=2s"), form(&deep)),
        (
            "all series at 11,000 steps, many times over",
            "/api/v1/query_range?start=1&end=11000&step=1&timeout=2s".into(),
            form(&vec!["count by (a) (count_over_time({__name__=~\".+\"}[100y:10s]))"; 20].join(" or ")),
        ),
    ]
}

/// Of `/proc/PID/status`, in kilobytes.
fn memory_kb(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running daemon");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn hostile_queries_are_refused_while_the_rules_go_on() {
    let site = Site::new();
    site.configure(&["tam-ky"], "host: false\n");
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let watchdog = "ALERTS{alertname=\"Watchdog\"}";
    wait_for("the first alert", Duration::from_secs(60), || (!query(site.port, watchdog).is_empty()).then_some(()));
    let before_kb = memory_kb(daemon.pid(), "VmRSS");
    let began = Instant::now();

    std::thread::scope(|scope| {
        for (what, path, body) in requests() {
            let port = site.port;
            scope.spawn(move || {
                let asked = Instant::now();
                let answer = match &body {
                    Some(body) => post(port, &path, "application/x-www-form-urlencoded", body),
                    None => get(port, &path),
                };
                // Whoever sends too much may find the connection closed before all is sent.
                let status = answer.map_or(0, |(status, _)| status);
                assert!(matches!(status, 0 | 400 | 413 | 414 | 422 | 431 | 503), "{what}: {status}");
                assert!(asked.elapsed() < WITHIN, "{what} took {:?}", asked.elapsed());
            });
        }
        // What makes other engines backtrack is answered: here time grows with the text only.
        let long = format!("label_replace(vector(1), \"s\", \"{}b\", \"\", \"\")", "a".repeat(5_000));
        let backtracking = format!("label_replace({long}, \"t\", \"$1\", \"s\", \"(a+)+(a|aa)+\")");
        let form = format!("query={}", encode(&backtracking));
        let answer = post(site.port, "/api/v1/query", "application/x-www-form-urlencoded", &form).expect("an answer");
        assert_eq!(answer.0, 200, "{}", answer.1);
    });

    let grown = memory_kb(daemon.pid(), "VmHWM").saturating_sub(before_kb);
    assert!(grown < GROWTH_KB, "the daemon grew by {grown} kB");
    let asked = began.elapsed().as_secs();
    let later = format!("min(timestamp({watchdog}))");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64();
    wait_for("an evaluation after it", Duration::from_secs(30), || number(site.port, &later).filter(|at| *at > now));
    // Rules are evaluated at every tick of a second; while a query reads, a tick waits for it.
    let samples = number(site.port, &format!("sum(count_over_time({watchdog}[{}s]))", asked.max(4)));
    assert!(
        samples.is_some_and(|samples| samples >= (asked / 6).max(1) as f64),
        "{samples:?} evaluations in {asked} s"
    );
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
