//! Databases: each way in which PostgreSQL and MariaDB can be wrong has its own result and its own words.

use crate::mariadb::MariaDb;
use crate::postgres::Postgres;
use crate::support::certificates::Authority;
use crate::support::daemon::Daemon;
use crate::support::{free_port, signal, wait_for};
use ioc_watch::config::site::Language;
use ioc_watch::config::{self, Config};
use ioc_watch::gather::service::{Check, CheckResult, Outcome, Phase, Trust};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PASSWORD: &str = "mật khẩu: 'của' \"probe\"";
/// For checks that end by themselves, however busy the machine.
const LONG: Duration = Duration::from_secs(20);
/// For checks that only the deadline ends.
const SHORT: Duration = Duration::from_secs(2);

/// One service: its id, what stands in its probe, the result, and a part of what is said about it.
type Case<'c> = (&'c str, String, CheckResult, &'c str);

/// Certificates, password files and the configuration of one test.
struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        ioc_watch::install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        std::fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        std::fs::write(dir.path().join("wrong"), "hunter2\n").unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        Authority::new(&other);
        Place { dir, authority }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A configuration with one database service a case.
    fn config(&self, engine: &str, port: u16, cases: &[Case<'_>]) -> Config {
        let mut text = format!(
            "site: {{name: IOC, agency: ioc, timezone: Asia/Ho_Chi_Minh}}\nserver: {{listen: '127.0.0.1:{port}'}}\n\
             data_dir: ./data\npeople: [{{id: truc, name: Trực, email: truc@ioc.vn.example}}]\n\
             agencies: [{{id: ioc, name: IOC, leader: truc}}]\n\
             email: {{smtp: 'smtp://127.0.0.1:9', from: ioc@vn.example}}\nservices:\n"
        );
        for (id, probe, ..) in cases {
            let _ = writeln!(text, "  - {{id: {id}, agency: ioc, kind: database, every: 2s, {engine}: {{{probe}}}}}");
        }
        let file = self.path().join("ioc-watch.yml");
        std::fs::write(&file, text).unwrap();
        config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    /// Checks each case once.
    fn judge(&self, engine: &str, cases: &[Case<'_>], timeout: Duration) -> Vec<Outcome> {
        let config = self.config(engine, free_port(), cases);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut outcomes, mut wrong) = (Vec::new(), Vec::new());
        for (service, (id, _, result, words)) in config.services.iter().zip(cases) {
            let outcome = runtime.block_on(async {
                Check::compile(&service.probe, &Trust::default()).await.unwrap().run(timeout).await
            });
            let said = outcome.detail.text(Language::En);
            if outcome.result != *result || !said.contains(words) {
                wrong.push(format!("{id}: {:?} {said}, expected {result:?} {words}", outcome.result));
            }
            for text in [said, outcome.detail.text(Language::Vi), format!("{outcome:?}{:?}", service.probe)] {
                assert!(!text.contains("hunter2") && !text.contains("mật khẩu:"), "{id}: {text}");
            }
            outcomes.push(outcome);
        }
        runtime.shutdown_background();
        assert!(wrong.is_empty(), "{engine}: {wrong:#?}");
        outcomes
    }
}

fn phases(outcome: &Outcome) -> Vec<&'static str> {
    Phase::ALL.into_iter().filter(|phase| outcome.phases.get(*phase).is_some()).map(Phase::as_str).collect()
}

/// What both databases are asked in the same words. `at` is the URL's scheme, user, host and port.
fn common<'c>(at: &str) -> Vec<Case<'c>> {
    use CheckResult::{Content, Error, Ok, Slow, Tls};
    let login = format!("url: '{at}/motcua', password_file: password");
    let with = |rest: &str| format!("{login}, {rest}");
    let count = "query: 'select count(*) from ho_so'";
    vec![
        ("plain", with("sslmode: disable"), Ok, ""),
        ("value", with(&format!("{count}, min: 2, max: 2")), Ok, ""),
        ("below", with(&format!("{count}, min: 3")), Content, "the value 2 is below 3"),
        ("above", with(&format!("{count}, max: 1.5")), Content, "the value 2 is above 1.5"),
        ("no-row", with("query: 'select 1 from ho_so where 1 = 0', min: 0"), Content, "no value"),
        ("nothing", with("query: 'select null', min: 0"), Content, "no value"),
        ("no-number", with("query: 'select ten from ho_so', min: 0"), Content, "not a number"),
        ("first-row", with("query: 'select id from ho_so order by id desc', min: 2"), Ok, ""),
        ("fresh", with("newest: {query: 'select max(luc) from ho_so', within: 1h}"), Ok, ""),
        (
            "fresh-column",
            with("query: 'select 7, max(luc) as moi from ho_so', min: 7, newest: {column: MOI, within: 1h}"),
            Ok,
            "",
        ),
        ("stale", with("newest: {query: 'select min(luc) from ho_so', within: 1h}"), Content, "the newest row is 3 h"),
        (
            "empty",
            with("newest: {query: 'select max(luc) from ho_so where 1 = 0', within: 1h}"),
            Content,
            "no newest row",
        ),
        ("no-column", with("newest: {column: nham, within: 1h}"), Content, "no column nham"),
        ("no-time", with("newest: {query: 'select ten from ho_so', within: 1h}"), Content, "not a time"),
        ("no-table", with("query: 'select count(*) from ho_so_cu'"), Error, "ho_so_cu"),
        ("slow", with("slow_after: 10ms, query: 'SLEEP'"), Slow, "slower than 0.0"),
        ("wrong-password", format!("url: '{at}/motcua', password_file: wrong"), Error, "the login was refused"),
        ("no-database", format!("url: '{at}/khong_co', password_file: password"), Error, "khong_co"),
        ("verified", with("ca_file: ca.pem"), Ok, ""),
        ("verified-ca", with("ca_file: ca.pem, sslmode: verify-ca"), Ok, ""),
        ("foreign-ca", with("ca_file: other/ca.pem"), Tls, "not signed by a trusted CA"),
        ("unverified", with("sslmode: require"), Ok, ""),
        ("system-ca", with("sslmode: verify-full"), Tls, "not signed by a trusted CA"),
    ]
}

/// The cases, with the engine's own way to sleep.
fn cases<'c>(at: &str, sleep: &str) -> Vec<Case<'c>> {
    let cases = common(at).into_iter();
    cases.map(|(id, probe, result, words)| (id, probe.replace("SLEEP", sleep), result, words)).collect()
}

fn outcome_of<'o>(cases: &[Case<'_>], outcomes: &'o [Outcome], id: &str) -> &'o Outcome {
    &outcomes[cases.iter().position(|case| case.0 == id).expect("a case")]
}

fn seen(cases: &[Case<'_>], outcomes: &[Outcome]) {
    let outcome = |id| outcome_of(cases, outcomes, id);
    assert_eq!(outcome("value").value, Some(2.0));
    assert_eq!(outcome("below").value, Some(2.0));
    assert_eq!(outcome("stale").newest.map(|newest| (jiff::Timestamp::now() - newest).as_hours()), Some(3));
    assert_eq!(outcome("empty").newest, None);
    assert_eq!(phases(outcome("plain")), ["resolve", "connect", "processing", "transfer", "total"]);
    assert_eq!(phases(outcome("verified")), ["resolve", "connect", "tls", "processing", "transfer", "total"]);
    assert!(outcome("verified").expiry.is_some() && outcome("foreign-ca").expiry.is_some());
    assert!(outcome("plain").expiry.is_none());
}

#[test]
fn postgres_is_judged_by_what_it_answers() {
    let place = Place::new();
    let certificate = place.authority.server(place.path(), "db", false);
    let hba = "host all cu 127.0.0.1/32 md5\nhostssl all ro 127.0.0.1/32 password\nhost all ro 127.0.0.1/32 password\n";
    let server = Postgres::start_with(Some(&certificate), hba);
    server.database("motcua");
    let password = PASSWORD.replace('\'', "''");
    server.sql(
        "motcua",
        &format!(
            "create table ho_so (id int, ten text, luc timestamptz, gio timestamp);
             insert into ho_so values (1, 'Nguyễn Văn A', now() - interval '3 hours 5 minutes', null),
                 (2, 'Trần Thị B', now(), now() at time zone 'Asia/Ho_Chi_Minh');
             create role probe login password '{password}'; create role ro login password '{password}';
             set password_encryption = 'md5'; create role cu login password '{password}';
             grant all on ho_so to probe, cu, ro;
             create function ghi() returns int language sql as 'insert into ho_so (id) values (3); select 1'"
        ),
    );
    let port = server.port;
    let at = |user: &str| format!("postgres://{user}@127.0.0.1:{port}");
    let mut all = cases(&at("probe"), "select pg_sleep(0.1)");
    let with = |rest: &str| format!("url: '{}/motcua', password_file: password, {rest}", at("probe"));
    let newest = |query: &str| format!("newest: {{query: '{query}', within: 1h}}");
    use CheckResult::{Error, Ok};
    all.extend([
        ("civil-time", with(&newest("select max(gio) from ho_so")), Ok, ""),
        ("epoch", with(&newest("select extract(epoch from max(luc)) from ho_so")), Ok, ""),
        ("local-time", with(&newest("select localtimestamp")), Ok, ""),
        ("boolean", with("query: 'select count(*) = 2 from ho_so', min: 1"), Ok, ""),
        (
            "write",
            with("query: 'with x as (insert into ho_so values (9) returning 1) select * from x'"),
            Error,
            "read-only transaction (25006)",
        ),
        ("write-hidden", with("query: 'select ghi()'"), Error, "read-only transaction (25006)"),
        ("several", with("query: 'select 1; drop table ho_so'"), Error, "multiple commands"),
        ("unlock", with("query: \"select set_config('transaction_read_only', 'off', false)\""), Error, "25001"),
        ("their-timeout", with("query: \"select set_config('statement_timeout', '1', true), pg_sleep(0)\""), Ok, ""),
        ("personal", with("query: 'select ten::int from ho_so'"), Error, "the query failed: 22P02"),
        ("md5", format!("url: '{}/motcua', password_file: password", at("cu")), Ok, ""),
        ("md5-wrong", format!("url: '{}/motcua', password_file: wrong", at("cu")), Error, "28P01"),
        ("clear", format!("url: '{}/motcua', password_file: password", at("ro")), Error, "in clear text"),
        ("clear-over-tls", format!("url: '{}/motcua', password_file: password, ca_file: ca.pem", at("ro")), Ok, ""),
        ("no-password", format!("url: '{}/motcua'", at("probe")), Error, "password_file names none"),
        ("nobody", format!("url: '{}/motcua', password_file: password", at("ai")), Error, "the login was refused"),
    ]);
    let outcomes = place.judge("postgres", &all, LONG);
    seen(&all, &outcomes);
    assert_eq!(server.sql("motcua", "select count(*) from ho_so"), "2", "nothing was written");

    // A query without end, then the whole server frozen.
    let hang = [("hang", with("query: 'select pg_sleep(10)'"), CheckResult::Hang, "silence after the query")];
    place.judge("postgres", &hang, SHORT);
    signal(server.pid(), "STOP");
    let frozen = [("frozen", with("sslmode: disable"), CheckResult::Hang, "silence during the login")];
    place.judge("postgres", &frozen, SHORT);
    let frozen = [("frozen-tls", with("sslmode: require"), CheckResult::Hang, "during the TLS handshake")];
    place.judge("postgres", &frozen, SHORT);
    signal(server.pid(), "CONT");
    drop(server);
    place.judge("postgres", &[("stopped", with("sslmode: disable"), CheckResult::Refused, "refuses")], LONG);
}

#[test]
fn mariadb_is_judged_by_what_it_answers() {
    let place = Place::new();
    let certificate = place.authority.server(place.path(), "db", false);
    let mut server = MariaDb::start(&certificate);
    let password = PASSWORD.replace('\'', "''");
    server.sql(
        "",
        &format!(
            "create database motcua character set utf8mb4; use motcua; set names utf8mb4;
             create table ho_so (id int, ten text, luc timestamp null, gio datetime);
             insert into ho_so values (1, 'Nguyễn Văn A', now() - interval 185 minute, null),
                 (2, 'Trần Thị B', now(), utc_timestamp() + interval 7 hour);
             create user probe@'%' identified by '{password}'; grant all on motcua.* to probe@'%';
             create user kin@'%' identified by '{password}' require ssl; grant all on motcua.* to kin@'%';
             create user trong@'%' identified by ''; grant select on motcua.* to trong@'%';
             create user xa@'192.0.2.1' identified by '{password}';
             create function ghi() returns int modifies sql data begin insert into ho_so (id) values (3); return 1; end//"
        )
        .replace("create function", "delimiter //\ncreate function"),
    );
    let port = server.port;
    let at = |user: &str| format!("mysql://{user}@127.0.0.1:{port}");
    let mut all = cases(&at("probe"), "select sleep(0.1)");
    let with = |rest: &str| format!("url: '{}/motcua', password_file: password, {rest}", at("probe"));
    let newest = |query: &str| format!("newest: {{query: '{query}', within: 1h}}");
    use CheckResult::{Error, Ok};
    all.extend([
        ("civil-time", with(&newest("select max(gio) from ho_so")), Ok, ""),
        ("epoch", with(&newest("select unix_timestamp(max(luc)) from ho_so")), Ok, ""),
        ("local-time", with(&newest("select now()")), Ok, ""),
        ("boolean", with("query: 'select count(*) = 2 from ho_so', min: 1"), Ok, ""),
        ("write-hidden", with("query: 'select ghi()'"), Error, "READ ONLY transaction (1792)"),
        ("into-file", with("query: \"select 1 into outfile '/tmp/x'\""), Error, "Access denied"),
        ("several", with("query: 'select 1; drop table ho_so'"), Error, "1064"),
        ("show", with("query: 'show tables'"), Ok, ""),
        ("personal", with("query: \"select cast(ten as int) + json_value(ten, '$') + 1 from ho_so\""), Ok, ""),
        ("tls-only", format!("url: '{}/motcua', password_file: password, ca_file: ca.pem", at("kin")), Ok, ""),
        (
            "tls-only-plain",
            format!("url: '{}/motcua', password_file: password, sslmode: disable", at("kin")),
            Error,
            "refused",
        ),
        ("empty-password", format!("url: '{}/motcua'", at("trong")), Ok, ""),
        ("no-password", format!("url: '{}/motcua'", at("probe")), Error, "the login was refused"),
        ("elsewhere", format!("url: '{}/motcua', password_file: password", at("xa")), Error, "the login was refused"),
        ("no-database-named", format!("url: '{}', password_file: password", at("probe")), Ok, ""),
    ]);
    let outcomes = place.judge("mysql", &all, LONG);
    seen(&all, &outcomes);
    assert_eq!(server.sql("motcua", "select count(*) from ho_so"), "2", "nothing was written");

    let hang = [("hang", with("query: 'select sleep(10)'"), CheckResult::Hang, "silence after the query")];
    place.judge("mysql", &hang, SHORT);
    signal(server.pid(), "STOP");
    let frozen = [("frozen", with("sslmode: disable"), CheckResult::Hang, "silence during the login")];
    place.judge("mysql", &frozen, SHORT);
    signal(server.pid(), "CONT");

    command_and_daemon(
        &place,
        &with("query: 'select count(*) from ho_so', max: 5, newest: {query: 'select min(luc) from ho_so', within: 1h}"),
    );
    server.stop();
    place.judge("mysql", &[("stopped", with("sslmode: disable"), CheckResult::Refused, "refuses")], LONG);
}

/// `ioc-watch probe` prints it; the daemon measures it.
fn command_and_daemon(place: &Place, probe: &str) {
    let port = free_port();
    place.config("mysql", port, &[("motcua", probe.to_owned(), CheckResult::Content, "")]);
    let file = place.path().join("ioc-watch.yml");
    let run = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .args(["probe", "--service", "motcua", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(run.status.code(), Some(1), "{printed}");
    for part in ["content", "dòng mới nhất đã cũ 3 giờ", "giá trị", "mới nhất"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let mut daemon = Daemon::start(place.path(), &file, port);
    let labels = "agency=\"ioc\",service=\"motcua\",kind=\"database\"";
    let metric = |name: &str| wait_for(name, Duration::from_secs(20), || daemon.metric(&format!("{name}{{{labels}}}")));
    assert_eq!(metric("ioc_service_query_value"), 2.0);
    assert_eq!(metric("ioc_service_data_max_age_seconds"), 3600.0);
    let age = jiff::Timestamp::now().as_second() as f64 - metric("ioc_service_data_newest_timestamp_seconds");
    assert!((11_100.0..11_300.0).contains(&age), "{age}");
    assert_eq!(metric("ioc_service_up"), 0.0);
    assert!(daemon.stop());
    assert!(!daemon.log().contains("mật khẩu:"), "{}", daemon.log());
}
