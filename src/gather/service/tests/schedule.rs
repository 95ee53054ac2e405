//! Outcomes in metrics and ledger, and a run of the scheduler.

use super::super::{CheckResult, Detail, Expiry, Outcome, Phase, Phases, Series, run};
use super::servers::{Authority, answer, page, probe};
use crate::attribution::{Ledger, State, Subject, SubjectKind};
use crate::config::Id;
use crate::config::probes::{Probe, http::HttpProbe};
use crate::config::services::{Service, ServiceKind};
use crate::config::site::{self, Language};
use crate::metrics::{Format, Metrics, columns};
use crate::store::Store;
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn service(id: &str, http: HttpProbe) -> Service {
    Service {
        id: Id::parse(id).unwrap(),
        name: id.into(),
        agency: Id::parse("tam-ky").unwrap(),
        kind: ServiceKind::Portal,
        every: Duration::from_millis(300),
        timeout: Duration::from_millis(250),
        depends_on: Vec::new(),
        probe: Probe::Http(http),
    }
}

fn subject(id: &str) -> Subject {
    Subject { kind: SubjectKind::Service, id: id.into() }
}

fn outcome(result: CheckResult, detail: Detail, expiry: Option<Expiry>) -> Outcome {
    let mut phases = Phases::default();
    phases.add(Phase::Total, Duration::from_millis(1_500));
    if result.is_up() {
        phases.add(Phase::Processing, Duration::from_millis(500));
    }
    Outcome { phases, expiry, ..Outcome::new(result, detail) }
}

async fn ledger() -> (Ledger, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&site::State::Sqlite, directory.path()).await.unwrap();
    (Ledger::resume(store).await.unwrap(), directory)
}

#[tokio::test]
async fn an_outcome_becomes_metrics_and_an_interval() {
    let metrics = Arc::new(Metrics::new());
    let (ledger, _directory) = ledger().await;
    let series = Series::new(&metrics, &service("dvc", probe("http://127.0.0.1/")));
    let page = metrics.render(Format::Text);
    assert!(!page.contains("ioc_service_up{"), "not checked yet");
    assert_eq!(page.matches("ioc_service_checks_total{").count(), 10);
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let expiry = Expiry { leaf: at(900), chain: at(800) };
    series.record(&ledger, &outcome(CheckResult::Ok, Detail::Fine, Some(expiry)), at(0), Language::Vi);
    assert_eq!(ledger.current(&subject("dvc")), Some((State::Up, at(0))));
    let page = metrics.render(Format::Text);
    for line in [
        "ioc_service_up{agency=\"tam-ky\",service=\"dvc\",kind=\"portal\"} 1\n",
        "kind=\"portal\",phase=\"processing\"} 0.5\n",
        "kind=\"portal\",result=\"ok\"} 1\n",
        "kind=\"portal\",cert=\"chain\"} 1800000800\n",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    let limit = Duration::from_secs(10);
    let hang = outcome(CheckResult::Hang, Detail::Silent { phase: Phase::Processing, limit }, None);
    for second in [30, 60] {
        series.record(&ledger, &hang, at(second), Language::Vi);
    }
    let page = metrics.render(Format::Text);
    assert!(page.contains("kind=\"portal\"} 0\n") && page.contains("result=\"hang\"} 2\n"), "{page}");
    assert!(!page.contains("phase=\"processing\""), "a phase that did not end");
    assert!(page.contains("cert=\"leaf\"} 1800000900\n"), "the certificate is still known");
    let intervals = ledger.intervals(SubjectKind::Service, at(0), at(100)).await.unwrap();
    assert_eq!(intervals.len(), 2);
    assert_eq!(intervals[1].from, at(30));
    assert_eq!(intervals[1].reason, "bị treo: đã kết nối rồi im lặng trước khi trả lời (đã chờ 10 giây)");
}

#[tokio::test]
async fn the_scheduler_checks_all_services_again_and_again_and_forgets_removed_ones() {
    let metrics = Arc::new(Metrics::new());
    let (ledger, _directory) = ledger().await;
    let authority = Authority::new();
    let trusted = |url: String| HttpProbe { ca_file: Some(authority.file()), ..probe(&url) };
    let good = answer(None, page("200 OK", "", "x")).await;
    let bad = answer(None, page("500 Broken", "", "x")).await;
    drop(Series::new(&metrics, &service("gone", probe("http://127.0.0.1/"))));
    ledger.observe(&subject("gone"), "tam-ky", State::Up, Timestamp::now(), "");
    let missing = HttpProbe { ca_file: Some(PathBuf::from("/nonexistent/ca.pem")), ..probe("http://127.0.0.1/") };
    let services = vec![
        service("good", trusted(format!("http://{good}/"))),
        service("bad", trusted(format!("http://{bad}/"))),
        service("unusable", missing),
    ];
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(services, Language::En, metrics.clone(), ledger.clone(), stop.clone()));
    let counted = |id, result| {
        let table = metrics.table(columns::service_checks::TABLE);
        table.get(table.row(&["tam-ky", id, "portal", result]), columns::service_checks::CHECKS).unwrap_or(0.0)
    };
    let skipped = || metrics.own.probes_skipped.with_label_values(&["unusable"]).get();
    tokio::time::timeout(Duration::from_secs(30), async {
        while counted("good", "ok") < 3.0 || counted("bad", "status") < 3.0 || skipped() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("three checks of each service");
    stop.cancel();
    running.await.unwrap().unwrap();
    let state = |id| ledger.current(&subject(id)).map(|(state, _)| state);
    assert_eq!(
        [state("good"), state("bad"), state("unusable")],
        [Some(State::Up), Some(State::Down), Some(State::Unknown)]
    );
    assert_eq!(state("gone"), None);
    assert!(!metrics.render(Format::Text).contains("gone"));
}
