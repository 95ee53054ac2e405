//! One suite of expressions on the embedded engine and on remote ones, a real Prometheus and a real VictoriaMetrics that
//! hold the same samples. And what a remote engine that does not do its work gives: an error of its kind, in bounded time.
//!
//! Left out is what VictoriaMetrics reads in its own way: `rate` and its like (it looks at the sample before the window),
//! `@` with `offset`, staleness.

use crate::support::prometheus::Prometheus;
use crate::support::{Process, free_port, post, wait_for, wait_for_port};
use ioc_watch::config::Secret;
use ioc_watch::config::site;
use ioc_watch::history::Remote;
use ioc_watch::metrics::Metrics;
use ioc_watch::promql::{self, Labels, Query, Run, Runs, Series, Storage, Value};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TICK: i64 = 15_000;
const TICKS: i64 = 80;

/// Series of one clock each.
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

/// Twenty minutes of samples from `start` on; their labels as text, for those who read text.
fn data(start: i64) -> (Data, Vec<(String, Vec<(i64, f64)>)>) {
    let (mut held, mut told) = (Vec::new(), Vec::new());
    for (index, (agency, service)) in [("ioc", "dvc"), ("tam-ky", "dvc"), ("tam-ky", "một cửa")].into_iter().enumerate()
    {
        for name in ["up", "seconds", "checks_total"] {
            let samples: Vec<(i64, f64)> = (0..TICKS)
                .map(|tick| {
                    let value = match name {
                        "up" => f64::from(u8::from((tick + index as i64) % 7 != 0)),
                        "seconds" => ((tick * 13 + index as i64 * 5) % 17) as f64 / 4.0,
                        _ => (tick * (index as i64 + 1)) as f64,
                    };
                    (start + tick * TICK, value)
                })
                .collect();
            let pairs = [("__name__", name), ("agency", agency), ("service", service)];
            let labels = Labels::new(pairs);
            let runs = samples.iter().enumerate().map(|(from, (_, value))| Run { from: from as u32, value: *value });
            held.push((labels, samples.iter().map(|(time, _)| *time).collect(), runs.collect()));
            told.push((format!("{name}{{agency=\"{agency}\",service=\"{service}\"}}"), samples));
        }
    }
    (Data(held), told)
}

const SUITE: &[&str] = &[
    "up",
    "up == 0",
    "seconds{service=\"một cửa\"}",
    "sum by (agency) (up)",
    "count(up == 1) or vector(0)",
    "max without (service) (seconds)",
    "topk(1, checks_total)",
    "quantile(0.5, seconds)",
    "max_over_time(seconds[5m])",
    "avg_over_time(up[10m])",
    "count_over_time(up{agency=\"ioc\"}[5m])",
    "quantile_over_time(0.9, seconds[10m])",
    "min_over_time(sum(seconds)[10m:1m])",
    "seconds offset 2m",
    "up * on (agency, service) group_left () seconds",
    "up and on (agency) seconds > 2",
    "up unless seconds > 1",
    "label_replace(up, \"kind\", \"$1\", \"service\", \"(d).*\")",
    "absent(nothing{agency=\"ioc\"})",
    "nothing",
    "abs(seconds - 2) / 2",
    "clamp(seconds, 1, 3)",
    "scalar(sum(up))",
    "1 + 2 * 3",
    "-checks_total % 7",
    "sum(up) > bool 2",
    "sort_desc(seconds)",
    "histogram_quantile(0.5, nothing)",
];

/// Labels and value, the name left out where an operation may or may not leave it, ascending.
fn told(value: Value) -> Vec<(String, f64)> {
    let mut rows: Vec<(String, f64)> = match value {
        Value::Scalar(value) => vec![("scalar".to_owned(), value)],
        Value::Vector(samples) => {
            let without_name = |labels: &Labels| labels.filter(|name| name != "__name__").to_string();
            samples.iter().map(|sample| (without_name(&sample.labels), sample.value)).collect()
        }
        other => panic!("{other:?}"),
    };
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn remote(url: &str) -> (Remote, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let config = site::Remote {
        url: url.parse().expect("a URL"),
        timeout: Duration::from_secs(2),
        headers: vec![("authorization".to_owned(), Secret::new("Bearer bí mật".replace(['í', 'ậ'], "_")))],
        ca_file: None,
        max_body: 1 << 20,
    };
    (Remote::new(&config, metrics.clone()).expect("a client"), metrics)
}

struct VictoriaMetrics {
    port: u16,
    _process: Process,
}

impl VictoriaMetrics {
    fn start(dir: &Path) -> VictoriaMetrics {
        let port = free_port();
        let child = Command::new("victoria-metrics")
            .arg(format!("-storageDataPath={}", dir.join("victoria").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args([
                "-retentionPeriod=10y",
                "-search.latencyOffset=0s",
                "-search.disableCache",
                "-memory.allowedBytes=64MB",
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("victoria.log")).expect("a writable directory"))
            .spawn();
        let victoria = VictoriaMetrics { port, _process: Process(child.expect("victoria-metrics is installed")) };
        wait_for_port("victoria-metrics", port);
        victoria
    }
}

#[test]
fn one_suite_gives_the_same_embedded_and_remote() {
    ioc_watch::install_tls_provider();
    let dir = tempfile::tempdir().expect("a directory");
    // An hour ago, off the minutes.
    let start = (Timestamp::now().as_millisecond() - 3_600_000) / 60_000 * 60_000 + 3_217;
    let (held, lines) = data(start);
    let (mut open_metrics, mut exposed) = (String::new(), String::new());
    for (series, samples) in &lines {
        for (time, value) in samples {
            let _ = writeln!(open_metrics, "{series} {value} {}.{:03}", time / 1_000, time % 1_000);
            let _ = writeln!(exposed, "{series} {value} {time}");
        }
    }
    let prometheus = Prometheus::on_samples(dir.path(), &(open_metrics + "# EOF\n"));
    let victoria = VictoriaMetrics::start(dir.path());
    let imported = post(victoria.port, "/api/v1/import/prometheus", "text/plain", &exposed).expect("an answer");
    assert_eq!(imported.0, 204, "{}", imported.1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let end = start + (TICKS - 1) * TICK + 4_000;
    let engines = [("prometheus", prometheus.port), ("victoria-metrics", victoria.port)];
    for (name, port) in engines {
        let (remote, metrics) = remote(&format!("http://127.0.0.1:{port}/"));
        let at = Timestamp::from_millisecond(end).expect("a time");
        let up = Query::parse("count(up)").expect("a query");
        wait_for("the samples to be found", Duration::from_secs(30), || {
            let found = runtime.block_on(remote.instant(&up, at)).ok()?;
            matches!(found, Value::Vector(samples) if samples.len() == 1).then_some(())
        });
        for text in SUITE {
            let query = Query::parse(text).expect(text);
            for at_ms in [end, end - 5 * 60_000] {
                let ours = told(promql::instant(&held, &query, at_ms).expect(text));
                let at = Timestamp::from_millisecond(at_ms).expect("a time");
                let theirs =
                    runtime.block_on(remote.instant(&query, at)).unwrap_or_else(|e| panic!("{name} {text}: {e}"));
                let mut theirs = told(theirs);
                if let ([("scalar", _)], [(labels, _)]) =
                    (&ours.iter().map(|(l, v)| (l.as_str(), *v)).collect::<Vec<_>>()[..], &mut theirs[..])
                {
                    // For VictoriaMetrics a scalar is a vector of one.
                    *labels = "scalar".to_owned();
                }
                let same = ours.len() == theirs.len()
                    && ours
                        .iter()
                        .zip(&theirs)
                        .all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * (1.0 + a.1.abs()));
                assert!(same, "{name}: {text} at {at_ms}:\n{ours:?}\n{theirs:?}");
            }
        }
        let query = Query::parse("sum by (agency) (seconds)").expect("a query");
        let steps = (end - 600_000, end, 30_000);
        let ours = promql::range(&held, &query, steps.0, steps.1, steps.2).expect("a range");
        let theirs = runtime.block_on(remote.range(&query, steps)).expect("a range");
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!((&ours.labels, &ours.samples), (&theirs.labels, &theirs.samples), "{name}");
        }
        let refused = runtime.block_on(remote.instant(&Query::parse("up * on (agency) seconds").expect("a query"), at));
        assert!(refused.is_err(), "{name}: many to many");
        assert!(metrics.own.remote_queries.with_label_values(&["refused"]).get() == 1, "{name}");
        assert!(metrics.own.remote_queries.with_label_values(&["ok"]).get() > 2 * SUITE.len() as u64, "{name}");
    }
}

/// Answers every request with these bytes and closes; counts them. Without bytes it never answers.
fn server(answer: Option<Vec<u8>>) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (asked, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 16_384];
            let n = stream.read(&mut request).unwrap_or(0);
            if asked.send(String::from_utf8_lossy(&request[..n]).into_owned()).is_err() {
                return;
            }
            match &answer {
                // Whoever asked too much may have hung up.
                Some(answer) => _ = stream.write_all(answer),
                None => held.push(stream),
            }
        }
    });
    (port, requests)
}

#[test]
fn an_engine_that_does_not_do_its_work_gives_an_error_in_bounded_time() {
    ioc_watch::install_tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let http = |status: &str, body: &str| {
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    let endless = Some([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 4 << 20]].concat());
    let rows = [
        ("malformed", http("200 OK", "{\"status\":"), false),
        ("malformed", http("200 OK", "<html>"), false),
        ("status", http("502 Bad Gateway", "<html>"), true),
        ("status", http("302 Found", ""), false),
        ("too_long", endless, false),
        ("unreachable", Some(b"SSH-2.0-x\r\n\r\n".to_vec()), true),
        ("timeout", None, true),
    ];
    let query = Query::parse("up == 0").expect("a query");
    let at = Timestamp::from_second(1_800_000_000).expect("a time");
    for (expected, answer, pauses) in rows {
        let (port, requests) = server(answer);
        let (remote, metrics) = remote(&format!("http://127.0.0.1:{port}/prom"));
        let began = Instant::now();
        for _ in 0..3 {
            assert!(runtime.block_on(remote.instant(&query, at)).is_err(), "{expected}");
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{expected}: {:?}", began.elapsed());
        let counted = |result: &str| metrics.own.remote_queries.with_label_values(&[result]).get();
        let (failed, paused) = if pauses { (1, 2) } else { (3, 0) };
        assert_eq!((counted(expected), counted("paused")), (failed, paused), "{expected}");
        let request = requests.recv().expect("a request");
        assert!(request.starts_with("POST /prom/api/v1/query HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer b_ m_t\r\n"), "{request}");
    }
    // Nobody listens there.
    let (remote, metrics) = remote(&format!("http://127.0.0.1:{}", free_port()));
    let error = runtime.block_on(remote.instant(&query, at)).expect_err("nobody listens").to_string();
    assert!(error.starts_with("the remote engine cannot be reached: "), "{error}");
    assert_eq!(metrics.own.remote_queries.with_label_values(&["unreachable"]).get(), 1);
}
