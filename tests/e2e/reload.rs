//! Reloading by HTTP and by signal: a bad configuration changes nothing, a good one takes over without a gap.

use crate::site::{Site, number, query, services};
use crate::support::daemon::Daemon;
use crate::support::nginx::Nginx;
use crate::support::{get, post, wait_for};
use std::time::Duration;

const SUCCESSFUL: &str = "ioc_watch_config_last_reload_successful";
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_bad_reload_changes_nothing_and_a_good_one_swaps() {
    let site = Site::new();
    let nginx = Nginx::start(site.dir(), &site.authority.server(site.dir(), "web", false), "Dịch vụ công");
    let common = "rules: {files: ['alerts/*.yml']}\nhost: false\n";
    let configure = |ids: &[&str], more: &str| {
        site.configure(&["tam-ky"], &format!("{common}{}{more}", services("tam-ky", ids, nginx.port)));
    };
    configure(&["one", "two"], "");
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let is_up = |id: &str| number(site.port, &format!("ioc_service_up{{service=\"{id}\"}}")) == Some(1.0);
    wait_for("both services to be up", SOON, || (is_up("one") && is_up("two")).then_some(()));
    let n_samples = || number(site.port, "count_over_time(ioc_service_up{service=\"one\"}[10m])").unwrap_or(0.0);
    let n_checks = || number(site.port, "sum(ioc_service_checks_total{service=\"one\"})").unwrap_or(0.0);
    wait_for("some history", SOON, || (n_samples() >= 3.0).then_some(()));
    assert_eq!(daemon.metric(SUCCESSFUL), Some(1.0));

    // Bad: two mistakes, both told with their places, and everything goes on.
    configure(&["one"], "  - {id: three, agency: nobody, http: {url: 'ftp://127.0.0.1/'}}\n");
    let (status, answer) = post(site.port, "/-/reload", "text/plain", "").unwrap();
    assert_eq!(status, 500, "{answer}");
    assert!(answer.contains("ioc-watch.yml:") && answer.contains("nobody") && answer.contains("ftp://"), "{answer}");
    assert_eq!(daemon.metric(SUCCESSFUL), Some(0.0));
    daemon.signal("HUP");
    wait_for("the hangup to be refused", SOON, || {
        (daemon.log().matches("reloading changed nothing").count() == 2).then_some(())
    });
    let checks = n_checks();
    wait_for("checks to go on", SOON, || (n_checks() > checks).then_some(()));
    assert!(is_up("one") && is_up("two") && query(site.port, "ioc_service_up{service=\"three\"}").is_empty());
    // The operator is told.
    wait_for("ConfigReloadFailed", SOON, || {
        (!query(site.port, "ALERTS{alertname=\"ConfigReloadFailed\",alertstate=\"firing\"}").is_empty()).then_some(())
    });

    // What only a restart can change is refused as a whole.
    configure(&["one"], "");
    let text = std::fs::read_to_string(site.file()).unwrap();
    std::fs::write(site.file(), text.replace("data_dir: ./data", "data_dir: ./elsewhere")).unwrap();
    let (status, answer) = post(site.port, "/-/reload", "text/plain", "").unwrap();
    assert_eq!((status, answer.contains("restart")), (500, true), "{answer}");

    // Good, by signal: a service goes with its series, the other keeps its past.
    let (samples, checks) = (n_samples(), n_checks());
    configure(&["one"], "");
    daemon.signal("HUP");
    wait_for("the hangup to be obeyed", SOON, || (daemon.metric(SUCCESSFUL) == Some(1.0)).then_some(()));
    wait_for("the removed service's series to end", SOON, || {
        let (_, page) = get(site.port, "/metrics").unwrap();
        // What a rule records from a range (`service:…:increase5m`) ends with the range, as in Prometheus.
        let is_gone = query(site.port, "{__name__=~\"ioc_.*|ALERTS\",service=\"two\"}").is_empty();
        (is_gone && !page.contains("service=\"two\"")).then_some(())
    });
    wait_for("the history to go on", SOON, || (n_samples() > samples && n_checks() > checks).then_some(()));

    // Good, by HTTP: a service comes.
    configure(&["one", "four"], "");
    assert_eq!(post(site.port, "/-/reload", "text/plain", "").unwrap().0, 200);
    wait_for("the new service to be up", SOON, || (is_up("one") && is_up("four")).then_some(()));
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
