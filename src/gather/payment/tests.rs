//! The payment room from files to metrics.

use super::ledger::{self, Judge};
use super::*;
use crate::feed::testing::{Bench, at, touch};
use crate::metrics::columns::{feed, feed_rejected, payment_mismatch as mismatch, payment_records as records};
use proptest::prelude::*;

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
    let reconciler = Reconciler::new(bench.config.payments.as_ref().unwrap(), zone, bench.place.clone());
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
        let evidence = evidence(&bench.place.store, "tam-ky", Kind::PaidNotRecorded).await.unwrap();
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
            "{PORTAL}T1,D-1,1.5,Đã thu,2026-11-23T08:00:00\nT2,D-2,9,Chờ,2026-11-23T08:00:00\nT3,D-3\n,D-4,9,paid,2026-11-23T08:00:00\n\
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

fn row() -> impl Strategy<Value = PaymentRow> {
    let status = prop::sample::select(Status::ALL.to_vec());
    let refund_of = prop_oneof![4 => Just(String::new()), 1 => (0..4_u8).prop_map(|n| format!("T{n}"))];
    (any::<bool>(), 0..6_u8, 1..3_i64, status, 0..40_i64, refund_of).prop_map(
        |(portal, n, amount, status, minute, refund_of)| PaymentRow {
            side: if portal { Side::Portal } else { Side::Gateway },
            txn_ref: format!("T{n}"),
            agency: if portal { "tam-ky".into() } else { String::new() },
            dossier: format!("D{}", n / 2),
            amount,
            status,
            at_us: minute * 60_000_000,
            refund_of,
        },
    )
}

/// The open mismatches after `batches` at minute `now`.
async fn outcome(batches: &[Vec<PaymentRow>], now: i64) -> Vec<(String, Kind, i64, Timestamp)> {
    let database = crate::store::testing::Database::sqlite().await;
    let store = &database.store;
    let due = |at_us| at_us + 20 * 60_000_000;
    let minutes = |minute: i64| {
        let limits = Limits { grace: Duration::from_secs(600), settlement_due: &due };
        Judge { now_us: minute * 60_000_000, limits, site: "ioc" }
    };
    for (index, batch) in batches.iter().enumerate() {
        let mut tx = store.begin().await.unwrap();
        ledger::take(&mut tx, batch.clone(), &minutes((index as i64 * 7).min(now))).await.unwrap();
        tx.commit().await.unwrap();
    }
    while ledger::take_due(store, &minutes(now)).await.unwrap() > 0 {}
    let open = open_mismatches(store, 100).await.unwrap();
    open.into_iter().map(|m| (m.txn_ref, m.kind, m.amount, m.since)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn batches_in_any_cut_and_order_give_what_one_reading_gives(
        mut rows in prop::collection::vec(row(), 1..14),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 14),
        size in 1..5_usize,
        now in 0..80_i64,
    ) {
        // Of one record with equal times the one read last counts, so times are made distinct.
        for (index, row) in rows.iter_mut().enumerate() {
            row.at_us += index as i64;
        }
        let whole = vec![rows.clone()];
        for (index, with) in shuffle.iter().enumerate().take(rows.len()) {
            let with = with.index(rows.len());
            rows.swap(index, with);
        }
        let batches: Vec<Vec<PaymentRow>> = rows.chunks(size).map(<[PaymentRow]>::to_vec).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (whole, cut) = runtime.block_on(async { (outcome(&whole, now).await, outcome(&batches, now).await) });
        prop_assert_eq!(whole, cut);
    }
}
