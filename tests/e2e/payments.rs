//! A payment that the portal did not record, from the gateway's file to the mailbox of whoever answers for payments at that
//! agency, and back; the same when the daemon is killed again and again while it reads.

use crate::postgres::Postgres;
use crate::site::{Site, leader, number};
use crate::support::daemon::Daemon;
use crate::support::nginx::Nginx;
use crate::support::{get, wait_for};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Of the payments in the test.
const GRACE: Duration = Duration::from_secs(15);
/// The poll that sees a file and the one that finds it unchanged, until writing has been quiet, tick, group interval,
/// group_wait and 5 s.
const BEYOND_GRACE: Duration = Duration::from_secs(1 + 1 + 1 + 1 + 2 + 4 + 5);

/// Complete under its name at once, as a careful sender does it.
fn put(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let hidden = dir.join(format!(".{name}"));
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(&hidden, dir.join(name)).unwrap();
}

fn sections(more: &str) -> String {
    format!(
        "rules: {{files: ['alerts/*.yml']}}\nincidents: {{group_wait: 4s, group_interval: 2s}}\n\
         payments:\n  grace: {}s\n  \
         portal: [{{csv: {{dir: portal, columns: {{txn_ref: txn_ref, dossier: dossier_id, agency: {{const: tam-ky}}, \
         amount: amount, status: status, time: recorded_at}}}}}}]\n  \
         gateway: [{{csv: {{dir: gateway, columns: {{txn_ref: txn_ref, dossier: dossier_id, amount: amount, \
         status: status, time: paid_at}}}}}}]\n{more}",
        GRACE.as_secs()
    )
}

/// Somebody else than the head answers for payments.
fn name_finance(site: &Site) {
    let text = std::fs::read_to_string(site.file()).unwrap();
    let text = text
        .replace(
            "people:\n",
            "people:\n  - {id: tp-tckh, name: Trưởng phòng Tài chính, email: tckh@tam-ky.vn.example}\n",
        )
        .replace("leader: lead-tam-ky}", "leader: lead-tam-ky, areas: {payment: tp-tckh}}");
    std::fs::write(site.file(), text).unwrap();
}

const PORTAL: &str = "dossier_id,txn_ref,amount,status,recorded_at\n";
const GATEWAY: &str = "txn_ref,dossier_id,amount,status,paid_at\n";

#[test]
fn an_unrecorded_payment_is_mailed_to_who_answers_for_payments_and_resolved_when_the_portal_catches_up() {
    let site = Site::new();
    let (portal, gateway) = (site.dir().join("portal"), site.dir().join("gateway"));
    let now = Timestamp::now();
    let earlier = now - SignedDuration::from_mins(30);
    // The dossier's agency is known from an earlier, failed attempt.
    put(&portal, "1.csv", &format!("{PORTAL}H47-1,GD1,50000,failed,{earlier}\n"));
    put(&gateway, "1.csv", GATEWAY);
    site.configure(&["tam-ky", "hoi-an"], &sections(""));
    name_finance(&site);
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    wait_for("the portal's file to be read", Duration::from_secs(20), || {
        number(site.port, "ioc_payment_records_total{agency=\"tam-ky\"} == 1")
    });

    let paid = Timestamp::now();
    let begin = Instant::now();
    put(&gateway, "2.csv", &format!("{GATEWAY}GD2,H47-1,1250000,settled,{paid}\n"));
    let mails = site.mail.wait("tckh@tam-ky.vn.example", 1, GRACE + BEYOND_GRACE + Duration::from_secs(5));
    eprintln!("mail after {:.1} s, of which {} s grace", begin.elapsed().as_secs_f64(), GRACE.as_secs());
    assert!(begin.elapsed() >= GRACE, "within grace nobody is told");
    let all = site.mail.mails();
    assert!(
        all.iter().all(|mail| mail.recipient != leader("tam-ky") && mail.recipient != leader("hoi-an")),
        "{all:#?}"
    );
    let parsed = parse(site.dir(), &mails[0].head, &mails[0].body);
    assert!(parsed.contains("Hồ sơ H47-1: 1.250.000 đ"), "{parsed}");
    assert!(parsed.contains("ho-so-chenh-lech.csv") && parsed.contains("\"H47-1\",\"GD2\""), "{parsed}");

    let (status, body) = get(site.port, "/api/ioc/v1/mismatches?agency=tam-ky").unwrap();
    assert!(status == 200 && body.contains("\"txnRef\":\"GD2\""), "{body}");
    let (status, page) = get(site.port, "/payments?lang=vi").unwrap();
    assert!(status == 200 && page.contains("H47-1") && page.contains("1.250.000 đ"), "{page}");

    put(&portal, "2.csv", &format!("{PORTAL}H47-1,GD2,1250000,paid,{paid}\n"));
    let mails = site.mail.wait("tckh@tam-ky.vn.example", 2, Duration::from_secs(30));
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());

    // The whole life can be told afterwards.
    let told = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .args(["reconcile", "--explain", "GD2", "--language", "en", "--config"])
        .arg(site.file())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for expected in ["Transaction GD2", "opened: paid but not recorded, 1,250,000 đ (tam-ky)", "both sides agree"] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
}

#[test]
fn a_live_portal_and_gateway_that_differ_are_mailed_within_grace_and_told_to_agree_again() {
    const GRACE: Duration = Duration::from_secs(6);
    let site = Site::new();
    let portal = Postgres::start();
    portal.database("dvc");
    let sql = |text: &str| portal.sql("dvc", text);
    sql(
        "create table thanh_toan (ma_gd text, ma_hs text, so_tien numeric(18,2), trang_thai text, cap_nhat timestamptz default now())",
    );
    // The dossier's agency is known from an earlier, failed attempt.
    sql("insert into thanh_toan values ('GD1', 'H47-1', 1250000, 'Lỗi', now() - interval '30 minutes')");
    let pair = site.authority.server(site.dir(), "gateway", false);
    let gateway = Nginx::start(site.dir(), &pair, "{\"data\": []}");
    std::fs::write(site.dir().join("password"), "of a test, on loopback\n").unwrap();
    let query = "select ma_gd, ma_hs, so_tien, trang_thai, cap_nhat from thanh_toan where cap_nhat > :watermark";
    let sections = format!(
        "rules: {{files: ['alerts/*.yml']}}\nincidents: {{group_wait: 4s, group_interval: 2s}}\n\
         payments:\n  grace: {}s\n  portal:\n    \
         - sql: {{url: 'postgres://ioc@127.0.0.1:{}/dvc', password_file: password, every: 1s, query: \"{query}\", \
         watermark: cap_nhat, columns: {{txn_ref: ma_gd, dossier: ma_hs, agency: {{const: tam-ky}}, amount: so_tien, \
         status: trang_thai, time: cap_nhat}}, status_map: {{'Đã thu': paid, 'Lỗi': failed}}}}\n  gateway:\n    \
         - http: {{url: 'https://127.0.0.1:{}/index.html', ca_file: ca.pem, every: 1s, items: /data, \
         columns: {{txn_ref: id, dossier: order, amount: /money/vnd, status: state, time: paid_at}}}}\n",
        GRACE.as_secs(),
        portal.port,
        gateway.port
    );
    site.configure(&["tam-ky", "hoi-an"], &sections);
    name_finance(&site);
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    wait_for("the portal's rows to be read", Duration::from_secs(20), || {
        number(site.port, "ioc_payment_records_total{agency=\"tam-ky\"} == 1")
    });

    let (paid, begin) = (Timestamp::now(), Instant::now());
    gateway.page(&format!(
        "{{\"data\": [{{\"id\": \"GD2\", \"order\": \"H47-1\", \"money\": {{\"vnd\": 1250000}}, \
         \"state\": \"settled\", \"paid_at\": \"{paid}\"}}]}}"
    ));
    let mails = site.mail.wait("tckh@tam-ky.vn.example", 1, GRACE + BEYOND_GRACE + Duration::from_secs(5));
    eprintln!("mail after {:.1} s, of which {} s grace", begin.elapsed().as_secs_f64(), GRACE.as_secs());
    assert!(begin.elapsed() >= GRACE, "within grace nobody is told");
    let parsed = parse(site.dir(), &mails[0].head, &mails[0].body);
    assert!(parsed.contains("Hồ sơ H47-1: 1.250.000 đ"), "{parsed}");
    assert_eq!(number(site.port, "sum(ioc_payment_mismatches_open{agency=\"tam-ky\"})"), Some(1.0));

    sql("insert into thanh_toan values ('GD2', 'H47-1', 1250000, 'Đã thu')");
    let mails = site.mail.wait("tckh@tam-ky.vn.example", 2, Duration::from_secs(30));
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    let (status, body) = get(site.port, "/api/ioc/v1/mismatches?agency=tam-ky&state=closed").unwrap();
    assert!(status == 200 && body.contains("\"txnRef\":\"GD2\""), "{body}");
    assert!(site.mail.mails().iter().all(|mail| mail.recipient != leader("hoi-an")), "nobody else is told");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// The mail as its reader sees it: texts decoded, attachments by name and content.
fn parse(dir: &Path, head: &str, body: &str) -> String {
    const READER: &str = "import email,sys\nfrom email import policy\n\
        m=email.message_from_file(open(sys.argv[1]),policy=policy.default)\n\
        for p in m.walk():\n\x20if p.get_content_maintype()=='text': print(p.get_filename() or '', p.get_content())\n";
    let file = dir.join("mail.eml");
    std::fs::write(&file, format!("{head}\n\n{body}")).unwrap();
    let output = Command::new("/usr/bin/python3").args(["-c", READER]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two sides of `n` payments with some of every kind that two files show.
fn write_sides(site: &Site, n: u64) {
    let (mut portal, mut gateway) = (String::from(PORTAL), String::from(GATEWAY));
    // A multiplier without a common factor with `n` mixes the order.
    for at in (0..n).map(|i| i * 7_919 % n) {
        let time = format!("2026-01-{:02}T{:02}:{:02}:00Z", 1 + at / 1_440 % 28, at / 60 % 24, at % 60);
        let (reference, dossier) = (format!("GD{at:07}"), format!("H-{at:07}"));
        if at % 200 != 1 {
            let status = if at % 200 == 3 { "pending" } else { "paid" };
            portal += &format!("{dossier},{reference},{},{status},{time}\n", 1_000 + at);
        }
        if at % 200 != 2 && at % 200 != 3 {
            gateway += &format!("{reference},{dossier},{},settled,{time}\n", 1_000 + at + u64::from(at % 200 == 4));
        }
        if at % 200 == 5 {
            gateway += &format!("GX{at:07},{dossier},{},settled,{time}\n", 1_000 + at);
        }
    }
    put(&site.dir().join("portal"), "1.csv", &portal);
    put(&site.dir().join("gateway"), "1.csv", &gateway);
}

#[test]
fn kill_9_in_the_middle_of_the_first_load_changes_nothing_in_its_result() {
    const ROWS: u64 = 20_000;
    const EACH: f64 = (ROWS / 200) as f64;
    let site = Site::new();
    site.configure(&["tam-ky"], &sections(""));
    write_sides(&site, ROWS);
    let kinds = ["paid_not_recorded", "recorded_not_paid", "amount_differs", "paid_twice"];
    let found = |kind: &str| number(site.port, &format!("sum(ioc_payment_mismatches_open{{kind=\"{kind}\"}})"));
    let read = || number(site.port, "sum(ioc_feed_rows_total)").unwrap_or(0.0);
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    for round in 1..=4_u32 {
        // At another place of the files each time; the last ones while it is judged, or afterwards.
        let rows = f64::from(round) * 4_000.0;
        let deadline = Instant::now() + Duration::from_secs(5);
        while read() < rows && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon.kill();
        daemon = Daemon::start(site.dir(), &site.file(), site.port);
    }
    for kind in kinds {
        wait_for(&format!("{EACH} of {kind}"), Duration::from_secs(60), || found(kind).filter(|n| *n == EACH));
    }
    let all = "sum(ioc_payment_mismatches_open)";
    assert_eq!(number(site.port, all), Some(4.0 * EACH), "and nothing else");
    let records = "sum by (side) (ioc_payment_records_total)";
    assert_eq!(number(site.port, &format!("{records} != {}", ROWS as f64 - EACH)), None, "each row counted once");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
