//! The payment room from files to metrics.

use super::row::{Channel, Record};
use super::*;
use crate::feed::testing::{Bench, at, touch};
use crate::metrics::columns::{feed, feed_rejected, payment_mismatch as mismatch, payment_records as records};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SECTIONS: &str = "payments:
  grace: 15m
  settlement_lag: 1d
  portal: [{csv: {dir: portal, columns: {txn_ref: 'Mã GD', dossier: Hồ sơ, agency: {const: tam-ky}, amount: Số tiền, status: Trạng thái, time: Giờ}, status_map: {'Đã thu': paid, 'Lỗi': failed}}}]
  gateway: [{csv: {dir: gateway, columns: {txn_ref: id, dossier: dossier, amount: amount, status: status, time: time}, amount: {divide: 100}}}]
";
const PORTAL: &str = "Mã GD,Hồ sơ,Số tiền,Trạng thái,Giờ\n";
const GATEWAY: &str = "id,dossier,amount,status,time\n";

/// On SQLite and on PostgreSQL.
async fn benches() -> Vec<(Bench, Reconciler)> {
    let mut benches = Vec::new();
    for bench in Bench::both(SECTIONS).await {
        bench.write("portal/.keep", "");
        bench.write("gateway/.keep", "");
        let reconciler = restart(&bench).await;
        benches.push((bench, reconciler));
    }
    benches
}

async fn restart(bench: &Bench) -> Reconciler {
    let zone = bench.config.site.timezone.clone();
    let mut problems = crate::config::Problems::default();
    let fees = Arc::new(fees::of(&bench.config, &mut problems));
    assert!(problems.is_empty());
    let reconciler = Reconciler::new(bench.config.payments.as_ref().unwrap(), fees, zone, bench.place.clone());
    reconciler.start().await.unwrap();
    reconciler
}

/// Polls twice, since a file is read when it looks the same in two polls.
async fn poll(reconciler: &mut Reconciler, now: &str) {
    for _ in 0..2 {
        for (feed, result) in reconciler.poll(at(now)).await.unwrap() {
            result.unwrap_or_else(|error| panic!("{feed}: {error}"));
        }
    }
}

fn open(bench: &Bench, kind: Kind) -> Option<f64> {
    bench.metric(mismatch::TABLE, &["tam-ky", kind.as_str()], mismatch::OPEN)
}

#[tokio::test]
async fn a_paid_dossier_that_is_not_recorded_is_found_survives_a_restart_and_closes_when_recorded() {
    for (bench, mut reconciler) in benches().await {
        bench.write(
            "portal/1.csv",
            format!("{PORTAL}T1,D-1,150.000,Đã thu,2026-11-23T08:00:00\nT2,D-2,90000,Lỗi,2026-11-23T08:01:00\n"),
        );
        bench.write(
            "gateway/1.csv",
            format!("{GATEWAY}T1,D-1,15000000,settled,2026-11-23T08:00:00\nT2,,9000000,settled,2026-11-23T08:01:00\n"),
        );
        poll(&mut reconciler, "2026-11-23T01:10:00Z").await;
        assert_eq!(open(&bench, Kind::PaidNotRecorded), Some(0.0), "within grace");
        poll(&mut reconciler, "2026-11-23T01:16:00Z").await;
        assert_eq!(open(&bench, Kind::PaidNotRecorded), Some(1.0));

        let mut reconciler = restart(&bench).await;
        let labels = ["tam-ky", "paid_not_recorded"];
        assert_eq!(bench.metric(mismatch::TABLE, &labels, mismatch::AMOUNT), Some(90_000.0));
        let since = at("2026-11-23T01:01:00Z");
        assert_eq!(bench.metric(mismatch::TABLE, &labels, mismatch::OLDEST), Some(since.as_second() as f64));
        let evidence = evidence(&bench.place.store, "tam-ky", Kind::PaidNotRecorded, 10).await.unwrap();
        assert_eq!((evidence.total, evidence.first[0].dossier.as_str(), evidence.first[0].since), (1, "D-2", since));
        assert_eq!(evidence.first, open_mismatches(&bench.place.store, 10).await.unwrap());

        bench.write("portal/2.csv", format!("{PORTAL}T2,D-2,90000,paid,2026-11-23T08:01:00\n"));
        poll(&mut reconciler, "2026-11-23T02:00:00Z").await;
        assert_eq!(open(&bench, Kind::PaidNotRecorded), Some(0.0));
        assert_eq!(bench.metric(mismatch::TABLE, &labels, mismatch::OPENED), Some(1.0));
        assert_eq!(bench.metric(mismatch::TABLE, &labels, mismatch::RESOLVED), Some(1.0));
        assert_eq!(bench.metric(mismatch::TABLE, &labels, mismatch::OLDEST), None);
        assert_eq!(open_mismatches(&bench.place.store, 10).await.unwrap(), []);
        let closed =
            mismatches_between(&bench.place.store, at("2026-11-23T00:00:00Z"), at("2026-11-24T00:00:00Z"), 9).await;
        assert_eq!(closed.unwrap()[0].closed, Some(at("2026-11-23T02:00:00Z")));
        assert_eq!(bench.metric(records::TABLE, &["tam-ky", "portal", "paid"], records::RECORDS), Some(2.0));
        assert_eq!(bench.metric(records::TABLE, &["ioc", "gateway", "settled"], records::RECORDS), Some(2.0));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_line_and_reason_and_counted_once() {
    for (bench, mut reconciler) in benches().await {
        let bad = format!(
            "{PORTAL}T1,D-1,1.5,Đã thu,2026-11-23T08:00:00\nT2,D-2,9,Chờ,2026-11-23T08:00:00\nT3,D-3\n,,9,paid,2026-11-23T08:00:00\n\
             T5,\"D-5,9,paid,2026-11-23T08:00:00\nT6,D-6,9,paid,hôm qua\nT7,D-7,9,paid,2026-11-23T08:00:00\n"
        );
        bench.write("portal/xấu.csv", &bad);
        bench.write("portal/copy.csv", &bad);
        bench.write("portal/head.csv", "Mã,Tiền\n1,2\n");
        bench.write("portal/binary.csv", b"M\0\xe3\0\n\0\n");
        for _ in 0..4 {
            poll(&mut reconciler, "2026-11-23T02:00:00Z").await;
        }
        let mut reconciler = restart(&bench).await;
        poll(&mut reconciler, "2026-11-23T02:00:00Z").await;
        let kept = bench.rejected("portal-1");
        for (line, reason) in [(2, "amount"), (3, "status"), (4, "fields"), (5, "missing"), (6, "quoting"), (7, "time")]
        {
            assert_eq!(kept.matches(&format!(",{line},{reason},")).count(), 1, "{line} {reason} in {kept}");
        }
        assert!(kept.contains("\"T5,\"\"D-5,9,paid,2026-11-23T08:00:00\""), "{kept}");
        assert!(kept.contains("file_header") && kept.contains("file_encoding"), "{kept}");
        let count = |reason| bench.metric(feed_rejected::TABLE, &["ioc", "portal-1", reason], feed_rejected::REJECTED);
        for reason in ["amount", "status", "fields", "missing", "quoting", "time", "file_header", "file_encoding"] {
            assert_eq!(count(reason), Some(1.0), "{reason}");
        }
        assert_eq!(bench.metric(feed::TABLE, &["ioc", "portal-1"], feed::ROWS), Some(1.0));
    }
}

#[tokio::test]
async fn a_file_is_read_once_per_content_and_a_half_written_one_is_waited_for() {
    for (bench, mut reconciler) in benches().await {
        let rows = || bench.metric(feed::TABLE, &["ioc", "gateway-1"], feed::ROWS);
        bench.write("gateway/a.csv", format!("{GATEWAY}T1,,100,settled,2026-11-23T08:00:00\nT2,,100,set"));
        for _ in 0..3 {
            poll(&mut reconciler, "2026-11-23T01:00:00Z").await;
            if rows() == Some(0.0) {
                bench.write(
                    "gateway/a.csv",
                    format!("{GATEWAY}T1,,100,settled,2026-11-23T08:00:00\nT2,,100,settled,2026-11-23T08:00:00\n"),
                );
            }
        }
        assert_eq!(rows(), Some(2.0));
        assert_eq!(bench.rejected("gateway-1"), "");
        touch(&bench.dir.path().join("gateway/a.csv"), 1_700_000_000);
        poll(&mut reconciler, "2026-11-23T01:00:00Z").await;
        assert_eq!(rows(), Some(2.0), "same content under another time");
        bench.write(
            "gateway/a.csv",
            format!("{GATEWAY}T2,,100,settled,2026-11-23T08:00:00\nT3,,100,settled,2026-11-23T08:00:00\n"),
        );
        poll(&mut reconciler, "2026-11-23T01:00:00Z").await;
        assert_eq!(rows(), Some(4.0));
        let total = bench.metric(records::TABLE, &["ioc", "gateway", "settled"], records::RECORDS);
        assert_eq!(total, Some(3.0), "only the new row had an effect");
    }
}

#[tokio::test]
async fn money_that_went_back_closes_the_mismatch() {
    for (bench, mut reconciler) in benches().await {
        bench.write("gateway/1.csv", format!("{GATEWAY}T1,D-1,100,settled,2026-11-23T08:00:00\n"));
        poll(&mut reconciler, "2026-11-23T02:00:00Z").await;
        let site = || bench.metric(mismatch::TABLE, &["ioc", "paid_not_recorded"], mismatch::OPEN);
        assert_eq!(site(), Some(1.0), "nobody says whose it is");
        bench.write("gateway/2.csv", format!("{GATEWAY}T1,D-1,-100,refunded,2026-11-23T09:00:00\n"));
        poll(&mut reconciler, "2026-11-23T03:00:00Z").await;
        assert_eq!(site(), Some(0.0));
    }
}

const FEES: &str = "procedure,fee,from,to\nP1,100000,,2026-10-31\nP1,80000,2026-11-01,\n";

/// As [`SECTIONS`], with a table of fees, a register, and sides without references.
const MORE: &str = "payments:
  fees: {file: fees.csv, online_reduction: 0.5}
  match_window: 1h
  dossiers: [{csv: {dir: register, columns: {dossier: dossier, agency: agency, procedure: procedure, channel: channel}}}]
  portal: [{csv: {dir: portal, columns: {dossier: Hồ sơ, agency: {const: tam-ky}, amount: Số tiền, status: Trạng thái, time: Giờ}}}]
  gateway: [{csv: {dir: gateway, columns: {txn_ref: id, dossier: dossier, amount: amount, status: status, time: time, refund_of: refund_of}}}]
";

#[tokio::test]
async fn fees_parts_orphans_and_records_without_a_reference_are_judged_by_dossier() {
    let fees = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(fees.path(), FEES).unwrap();
    let sections = MORE.replace("fees.csv", &fees.path().display().to_string());
    for bench in Bench::both(&sections).await {
        let register = "dossier,agency,procedure,channel\nD-1,tam-ky,P1,online\nD-2,tam-ky,P1,online\n\
                        D-3,tam-ky,P1,counter\nD-4,tam-ky,,\nD-6,tam-ky,,\nD-7,tam-ky,P1,online\n";
        bench.write("register/1.csv", register);
        let portal = "Hồ sơ,Số tiền,Trạng thái,Giờ\n";
        let day = "2026-11-23T08";
        bench.write(
            "portal/1.csv",
            format!(
                "{portal}D-1,80000,paid,{day}:00:00\nD-2,40000,paid,{day}:00:00\nD-3,80000,paid,{day}:00:00\n\
                 D-4,50,paid,{day}:00:00\nD-7,100000,paid,2026-10-31T08:00:00\n"
            ),
        );
        bench.write(
            "gateway/1.csv",
            format!(
                "id,dossier,amount,status,time,refund_of\nG1,D-1,80000,settled,{day}:05:00,\nG2,D-2,40000,settled,{day}:05:00,\n\
                 G3,D-3,40000,settled,{day}:05:00,\nG4,D-3,40000,settled,{day}:09:00,\nG5,D-4,50,settled,{day}:05:00,\n\
                 G6,D-4,50,settled,{day}:06:00,\nG7,D-5,70,settled,{day}:05:00,\nG8,D-6,60,settled,{day}:05:00,\n\
                 G9,D-7,100000,settled,2026-10-31T08:20:00,\n"
            ),
        );
        let mut reconciler = restart(&bench).await;
        poll(&mut reconciler, "2026-11-23T02:00:00Z").await;
        let found = |open: Vec<MismatchInfo>| -> Vec<(String, Kind, i64, String)> {
            let mut found: Vec<_> = open.into_iter().map(|m| (m.txn_ref, m.kind, m.amount, m.agency)).collect();
            found.sort();
            found
        };
        let row = |txn: &str, kind, amount, agency: &str| (txn.to_string(), kind, amount, agency.to_string());
        let expected = [
            row("G1", Kind::FeeNotReduced, 40_000, "tam-ky"),
            row("G6", Kind::PaidTwice, 50, "tam-ky"),
            row("G7", Kind::OrphanPayment, 70, "ioc"),
            row("G8", Kind::PaidNotRecorded, 60, "tam-ky"),
            row("G9", Kind::FeeNotReduced, 50_000, "tam-ky"),
        ];
        assert_eq!(found(open_mismatches(&bench.place.store, 100).await.unwrap()), expected);
        // The register learns of D-5, the second payment goes back, and D-6 is recorded.
        bench.write("register/2.csv", "dossier,agency,procedure,channel\nD-5,tam-ky,,\n");
        bench.write(
            "gateway/2.csv",
            format!("id,dossier,amount,status,time,refund_of\nR1,,-50,refunded,{day}:30:00,G6\n"),
        );
        bench.write("portal/2.csv", format!("{portal}D-6,60,paid,{day}:40:00\n"));
        poll(&mut reconciler, "2026-11-23T02:01:00Z").await;
        let expected = [expected[0].clone(), row("G7", Kind::PaidNotRecorded, 70, "tam-ky"), expected[4].clone()];
        assert_eq!(found(open_mismatches(&bench.place.store, 100).await.unwrap()), expected);
        // Another table of fees: everything is judged again.
        std::fs::write(fees.path(), "procedure,fee\nP1,160000\n").unwrap();
        let mut reconciler = restart(&bench).await;
        poll(&mut reconciler, "2026-11-23T02:02:00Z").await;
        let expected = [expected[1].clone(), row("G9", Kind::FeeNotReduced, 20_000, "tam-ky")];
        assert_eq!(found(open_mismatches(&bench.place.store, 100).await.unwrap()), expected);
        std::fs::write(fees.path(), FEES).unwrap();
    }
}

#[tokio::test]
async fn a_batch_costs_its_own_size_even_where_all_payments_bear_one_code() {
    for (bench, mut reconciler) in benches().await {
        let rows = |from: usize, to: usize, dossier: &dyn Fn(usize) -> String| {
            let row = |n| format!("T{n},{},100,settled,2026-11-23T08:00:00\n", dossier(n));
            format!("{GATEWAY}{}", (from..to).map(row).collect::<String>())
        };
        let now = "2026-11-23T02:00:00Z";
        bench.write("gateway/1.csv", rows(0, 5_000, &|n| format!("D-{n}")));
        poll(&mut reconciler, now).await;
        let first = reconciler.touched();
        assert!((10_000..12_000).contains(&first), "{first}");
        bench.write("gateway/2.csv", rows(5_000, 5_100, &|n| format!("D-{n}")));
        poll(&mut reconciler, now).await;
        let second = reconciler.touched() - first;
        assert!((200..250).contains(&second), "{second}");
        // A code that stands for none.
        bench.write("gateway/3.csv", rows(6_000, 6_150, &|_| "N/A".into()));
        poll(&mut reconciler, now).await;
        let twice = || bench.metric(mismatch::TABLE, &["ioc", "paid_twice"], mismatch::OPEN);
        assert_eq!(twice(), Some(149.0), "few enough for one dossier");
        bench.write("gateway/4.csv", rows(7_000, 9_000, &|_| "N/A".into()));
        poll(&mut reconciler, now).await;
        assert_eq!(twice(), Some(0.0), "too many to be one");
        let before = reconciler.touched();
        bench.write("gateway/5.csv", rows(9_000, 9_010, &|_| "N/A".into()));
        poll(&mut reconciler, now).await;
        assert!(reconciler.touched() - before < 30);
        assert_eq!(bench.metric(mismatch::TABLE, &["ioc", "paid_not_recorded"], mismatch::OPEN), Some(7_260.0));
        // A start with the same settings judges nothing again.
        let mut reconciler = restart(&bench).await;
        poll(&mut reconciler, now).await;
        assert_eq!(reconciler.touched(), 0);
    }
}

fn row() -> impl Strategy<Value = PaymentRow> {
    let status = prop::sample::select(Status::ALL.to_vec());
    let refund_of = prop_oneof![4 => Just(String::new()), 1 => (0..4_u8).prop_map(|n| format!("T{n}"))];
    let dossier = prop_oneof![4 => Just(None), 1 => Just(Some(String::new())), 1 => (0..3_u8).prop_map(|n| Some(format!("D{n}")))];
    let channel = prop::sample::select(vec![Channel::Unknown, Channel::Online, Channel::Other]);
    (any::<bool>(), 0..8_u8, 1..3_i64, status, 0..40_i64, refund_of, dossier, channel).prop_map(
        |(portal, n, amount, status, minute, refund_of, dossier, channel)| {
            let dossier = dossier.unwrap_or_else(|| format!("D{}", n / 3));
            // Some have no reference; the key is made when the times are known.
            let key = if n == 7 || (n == 6 && !portal) { String::new() } else { format!("T{n}") };
            let dossier = if key.is_empty() && dossier.is_empty() { "D1".to_string() } else { dossier };
            let record = Record {
                agency: if portal { "tam-ky".into() } else { String::new() },
                dossier,
                amount: amount * 50,
                status,
                at_us: minute * 60_000_000,
                refund_of,
                procedure: if n % 2 == 0 { "p".into() } else { String::new() },
                channel,
            };
            PaymentRow { side: if portal { Side::Portal } else { Side::Gateway }, key, record }
        },
    )
}

/// The open mismatches after `batches` at minute `now`, from an empty ledger. In between it is judged some times. Those of
/// `put_down` (a bit each) are put down first.
async fn outcome(
    store: &crate::store::Store,
    batches: &[Vec<PaymentRow>],
    now: i64,
    has_fees: bool,
    put_down: u16,
) -> Vec<(String, Kind, i64, i64, String)> {
    let mut tx = store.begin().await.unwrap();
    for table in ["payment_transactions", "payment_mismatches", "payment_mismatch_totals", "payment_crowds"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let due = |at_us| at_us + 20 * 60_000_000;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fees.csv");
    std::fs::write(&file, "procedure,fee\np,100\n").unwrap();
    let fees = if has_fees { fees::tests::read(&file) } else { Fees::default() };
    let zone = TimeZone::UTC;
    let arrivals = Arrivals::default();
    // As in a first load of much.
    let _noted = if put_down & 1 == 1 { arrivals.note_dossiers(store).await.unwrap() } else { None };
    let (grace, match_window) = (Duration::from_secs(600), Duration::from_secs(900));
    let alone = Limits { grace, settlement_due: &due, match_window };
    let alone = Some(&alone).filter(|_| !has_fees);
    let judge = |minute: i64| {
        let limits = Limits { grace, settlement_due: &due, match_window };
        let now_us = minute * 60_000_000;
        Judge { now_us, limits, fees: &fees, has_register: false, site: "ioc", zone: &zone }
    };
    for (index, batch) in batches.iter().enumerate() {
        let mut tx = store.begin().await.unwrap();
        if put_down >> (index % 16) & 1 == 1 {
            arrivals.write(&mut tx, arrivals.texts(batch), "ioc").await.unwrap();
        } else {
            arrivals.take_at_once(&mut tx, batch.clone(), "ioc").await.unwrap();
        }
        tx.commit().await.unwrap();
        if index % 2 == 0 {
            arrivals.take_in(store, "ioc", alone).await.unwrap();
            let minute = (index as i64 * 7).min(now);
            while judging::take_due(store, &judge(minute)).await.unwrap() > 0 {}
        }
    }
    arrivals.take_in(store, "ioc", alone).await.unwrap();
    while judging::take_due(store, &judge(now)).await.unwrap() > 0 {}
    let sql = "SELECT txn_ref, kind, amount, since_us, agency FROM payment_mismatches \
               WHERE closed_us IS NULL ORDER BY txn_ref";
    let rows = sqlx::query(sql).fetch_all(store.reader()).await.unwrap();
    use sqlx::Row;
    let kind = |row: &sqlx::any::AnyRow| Kind::parse(row.get(1)).unwrap();
    let open: Vec<(String, Kind, i64, i64, String)> =
        rows.iter().map(|row| (row.get(0), kind(row), row.get(2), row.get(3), row.get(4))).collect();
    let mut counted: BTreeMap<(String, Kind), (i64, i64, i64)> = BTreeMap::new();
    for (_, kind, amount, since_us, agency) in &open {
        let (count, sum, oldest) = counted.entry((agency.clone(), *kind)).or_insert((0, 0, i64::MAX));
        (*count, *sum, *oldest) = (*count + 1, *sum + amount, *since_us.min(oldest));
    }
    let tallies = tallies(store).await.unwrap().into_iter();
    let tallies = tallies.map(|tally| ((tally.agency, tally.kind), (tally.count, tally.amount, micros(tally.oldest))));
    assert_eq!(tallies.collect::<BTreeMap<_, _>>(), counted);
    open
}

#[test]
fn order_batches_repetition_and_which_side_comes_first_change_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let databases = runtime.block_on(crate::store::testing::Database::both());
    for (database, cases) in databases.iter().zip([150, 60]) {
        let input = (
            prop::collection::vec(row(), 1..16),
            prop::collection::vec(any::<prop::sample::Index>(), 16),
            prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            1..6_usize,
            any::<bool>(),
            0..80_i64,
            any::<bool>(),
            any::<u16>(),
        );
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
        let result = runner.run(&input, |(mut rows, shuffle, again, size, by_side, now, has_fees, put_down)| {
            for row in &mut rows {
                if row.key.is_empty() {
                    let Record { dossier, amount, at_us, .. } = &row.record;
                    row.key = row::nameless_key(dossier, *amount, *at_us);
                }
            }
            let whole = vec![rows.clone()];
            for (index, with) in shuffle.iter().enumerate().take(rows.len()) {
                let with = with.index(rows.len());
                rows.swap(index, with);
            }
            let repeated: Vec<PaymentRow> = again.iter().map(|index| rows[index.index(rows.len())].clone()).collect();
            rows.extend(repeated);
            if by_side {
                rows.sort_by_key(|row| std::cmp::Reverse(row.side));
            }
            let batches: Vec<Vec<PaymentRow>> = rows.chunks(size).map(<[PaymentRow]>::to_vec).collect();
            let (whole, cut) = runtime.block_on(async {
                let whole = outcome(&database.store, &whole, now, has_fees, 0).await;
                (whole, outcome(&database.store, &batches, now, has_fees, put_down).await)
            });
            prop_assert_eq!(whole, cut);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[tokio::test]
async fn payments_older_than_they_are_kept_are_forgotten_dossier_by_dossier_and_not_taken_again() {
    use sqlx::Row;
    for bench in Bench::both(&SECTIONS.replace("grace:", "keep: 90d\n  grace:")).await {
        let paid = |n: u32, dossier: &str| format!("T{n},{dossier},150.000,Đã thu,2026-05-01T08:00:00\n");
        let settled = |n: u32, dossier: &str| format!("T{n},{dossier},15000000,settled,2026-05-01T08:00:00\n");
        bench.write("portal/1.csv", format!("{PORTAL}{}{}{}", paid(1, "D1"), paid(2, "D2"), paid(4, "D4")));
        bench.write("gateway/1.csv", format!("{GATEWAY}{}{}{}", settled(1, "D1"), settled(2, "D2"), settled(3, "D3")));
        let mut reconciler = restart(&bench).await;
        poll(&mut reconciler, "2026-05-20T00:00:00Z").await;
        // A younger payment of D2, and T1 once more.
        let young = "T5,D2,15000000,failed,2026-11-19T08:00:00\n";
        bench.write("gateway/2.csv", format!("{GATEWAY}{young}{}", settled(1, "D1")));
        let now = "2026-11-20T00:00:00Z";
        poll(&mut reconciler, now).await;
        let keys = || async {
            let sql = "SELECT txn_ref FROM payment_transactions ORDER BY txn_ref";
            let rows = sqlx::query(sql).fetch_all(bench.place.store.reader()).await.unwrap();
            rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys().await, "T1 T2 T3 T4 T5");
        let rejected = bench.rejected("gateway-1");
        assert!(
            rejected.contains("2.csv,3,time,\"2026-05-01T01:00:00Z is longer ago than payments are kept"),
            "{rejected}"
        );
        reconciler.rules.forget(at(now)).await.unwrap();
        // T2's dossier has a younger payment; T3 and T4 are open mismatches.
        assert_eq!(keys().await, "T2 T3 T4 T5");
    }
}
