//! Settlement files and answers of strangers (see `tests/samples/README.md`), read by mapping alone.

use super::push_tests::send_all;
use super::*;
use crate::feed::testing::{Bench, at, windows_1258};
use crate::store::from_micros;
use sqlx::Row as _;

/// What the gateway's side of the ledger holds: transaction, dossier, amount, status, time, what it gives back.
async fn kept(bench: &Bench) -> Vec<String> {
    let sql = "SELECT txn_ref, dossier, amount, status, at_us, refund_of FROM payment_rows ORDER BY txn_ref";
    let rows = sqlx::query(sql).fetch_all(bench.place.store.reader()).await.unwrap();
    let shown = rows.iter().map(|row| {
        let (amount, at_us): (i64, i64) = (row.get("amount"), row.get("at_us"));
        let text = |name: &str| row.get::<String, _>(name);
        let (txn_ref, dossier, status, refund_of) =
            (text("txn_ref"), text("dossier"), text("status"), text("refund_of"));
        format!("{txn_ref}|{dossier}|{amount}|{status}|{}|{refund_of}", from_micros(at_us))
    });
    shown.collect()
}

async fn bench_with(gateway: &str) -> (Bench, Reconciler) {
    let sections = format!(
        "payments:\n  portal: [{{csv: {{dir: portal, columns: {{txn_ref: a, amount: b, status: c, time: d}}}}}}]\n  gateway:\n    - {gateway}\n"
    );
    let bench = Bench::sqlite(&sections).await;
    bench.write("portal/.keep", "");
    let zone = bench.config.site.timezone.clone();
    let reconciler =
        Reconciler::new(bench.config.payments.as_ref().unwrap(), Arc::default(), zone, bench.place.clone());
    reconciler.start().await.unwrap();
    (bench, reconciler)
}

async fn read_file(gateway: &str, file: &str, text: &str) -> (Bench, Vec<String>) {
    let (bench, mut reconciler) = bench_with(gateway).await;
    bench.write(file, text);
    for _ in 0..2 {
        for (feed, result) in reconciler.poll(at("2026-11-23T02:00:00Z")).await.unwrap() {
            result.unwrap_or_else(|error| panic!("{feed}: {error}"));
        }
    }
    let rows = kept(&bench).await;
    (bench, rows)
}

#[tokio::test]
async fn adyens_settlement_detail_report() {
    let text = include_str!("../../../tests/samples/adyen-settlement-detail.csv");
    let gateway = "csv:
        dir: in
        only: {Type: [Settled, Refunded]}
        timezone: Europe/Amsterdam
        columns: {txn_ref: Psp Reference, dossier: Merchant Reference, amount: Gross Credit (GC), status: Type, time: Creation Date, method: Payment Method}
        status_map: {Settled: settled, Refunded: refunded}";
    let (bench, rows) = read_file(gateway, "in/a.csv", text).await;
    let expected = [
        "8816300000000001|H35-2026-000101|150000|settled|2026-11-20T07:15:00Z|",
        "8816300000000002|H35-2026-000102|85000|settled|2026-11-20T08:30:10Z|",
    ];
    assert_eq!(rows, expected);
    assert_eq!(bench.rejected("gateway-1"), "");
}

#[tokio::test]
async fn paypals_settlement_report_with_rows_of_several_types() {
    let text = include_str!("../../../tests/samples/paypal-settlement.csv");
    let gateway = "csv:
        dir: in
        only: {CH: SB}
        time_format: '%Y/%m/%d %H:%M:%S %z'
        amount: {divide: 100}
        columns: {txn_ref: Transaction ID, dossier: Invoice ID, amount: Gross Transaction Amount, status: Transaction Event Code, time: Transaction Completion Date, refund_of: PayPal Reference ID}
        status_map: {T0006: settled, T1107: refunded}";
    let (bench, rows) = read_file(gateway, "in/p.csv", text).await;
    let expected = [
        "5TX00000000000001|H35-2026-000201|150000|settled|2026-11-20T01:15:09Z|",
        "5TX00000000000002|H35-2026-000202|85000|settled|2026-11-20T03:00:02Z|",
        "5TX00000000000003||150000|refunded|2026-11-20T08:00:01Z|5TX00000000000001",
    ];
    assert_eq!(rows, expected);
    assert_eq!(bench.rejected("gateway-1"), "");
}

#[tokio::test]
async fn stripes_balance_transactions() {
    let text = include_str!("../../../tests/samples/stripe-balance.json");
    let list: serde_json::Value = serde_json::from_str(text).unwrap();
    let gateway = "push:
        only: {reporting_category: [charge, refund]}
        time_format: '%s'
        columns: {txn_ref: source, dossier: description, amount: amount, status: reporting_category, time: created}
        status_map: {charge: settled, refund: refunded}";
    let (bench, _reconciler) = bench_with(gateway).await;
    send_all(&bench, "gateway-1", &list["data"].to_string()).await;
    let expected = [
        "ch_ioc0000000000001|H35-2026-000301|150000|settled|2025-11-21T01:15:00Z|",
        "re_ioc0000000000002|REFUND FOR CHARGE|150000|refunded|2025-11-21T13:00:00Z|",
    ];
    assert_eq!(kept(&bench).await, expected);
    assert_eq!(bench.rejected("gateway-1"), "");
}

#[tokio::test]
async fn mangopays_transactions() {
    let text = include_str!("../../../tests/samples/mangopay-transactions.json");
    let gateway = "push:
        only: {Type: PAYIN}
        time_format: '%s'
        columns: {txn_ref: Id, dossier: Tag, amount: /DebitedFunds/Amount, status: Status, time: CreationDate}
        status_map: {CREATED: pending, SUCCEEDED: settled, FAILED: failed}";
    let (bench, _reconciler) = bench_with(gateway).await;
    send_all(&bench, "gateway-1", text).await;
    let expected = [
        "wt_ioc_0001|H35-2026-000401|150000|settled|2025-11-21T01:15:00Z|",
        "wt_ioc_0002|H35-2026-000402|85000|failed|2025-11-21T01:53:20Z|",
    ];
    assert_eq!(kept(&bench).await, expected);
}

#[tokio::test]
async fn vnpays_ipn_calls() {
    let text = include_str!("../../../tests/samples/vnpay-ipn.json");
    let gateway = "push:
        time_format: '%Y%m%d%H%M%S'
        timezone: Asia/Ho_Chi_Minh
        amount: {divide: 100}
        columns: {txn_ref: vnp_TransactionNo, dossier: vnp_TxnRef, amount: vnp_Amount, status: vnp_TransactionStatus, time: vnp_PayDate, method: vnp_CardType}
        status_map: {'00': settled, '01': pending, '02': failed}";
    let (bench, _reconciler) = bench_with(gateway).await;
    send_all(&bench, "gateway-1", text).await;
    let expected = [
        "14000001|H35-2026-000501|150000|settled|2026-11-21T01:15:09Z|",
        "14000002|H35-2026-000502|85000|failed|2026-11-21T01:20:00Z|",
    ];
    assert_eq!(kept(&bench).await, expected);
}

/// The same rows, as Vietnamese offices export them: title rows, tones, dots in numbers, three encodings.
#[tokio::test]
async fn a_vietnamese_export_in_every_encoding_and_delimiter() {
    let rows = [
        "BÁO CÁO GIAO DỊCH;;;;",
        "Từ ngày 20/11/2026;;;;",
        "Mã giao dịch;Mã hồ sơ;Số tiền;Trạng thái;Thời gian",
        "T1;H35-2026-000601;1.150.000 đ;Đã thanh toán;20/11/2026 08:15:09",
        "T2;H35-2026-000602;85.000;Đang xử lý;20/11/2026 08:16:00",
    ];
    let text = rows.join("\r\n") + "\r\n";
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let legacy: Vec<u8> = text.chars().flat_map(windows_1258).collect();
    let tabs = format!("\u{feff}{}", text.replace(';', "\t"));
    for (name, encoding, delimiter, bytes) in [
        ("utf-8", "utf-8", ";", text.clone().into_bytes()),
        ("utf-8 with a mark and tabs", "utf-8", "\\t", tabs.into_bytes()),
        ("utf-16, found by its mark", "utf-8", ";", utf16),
        ("windows-1258", "windows-1258", ";", legacy),
    ] {
        let gateway = format!(
            "csv:
        dir: in
        encoding: {encoding}
        delimiter: \"{delimiter}\"
        time_format: '%d/%m/%Y %H:%M:%S'
        columns: {{txn_ref: Mã giao dịch, dossier: Mã hồ sơ, amount: Số tiền, status: Trạng thái, time: Thời gian}}
        status_map: {{Đã thanh toán: settled, Đang xử lý: pending}}"
        );
        let (bench, mut reconciler) = bench_with(&gateway).await;
        std::fs::create_dir_all(bench.dir.path().join("in")).unwrap();
        std::fs::write(bench.dir.path().join("in/x.csv"), bytes).unwrap();
        for _ in 0..2 {
            for (feed, result) in reconciler.poll(at("2026-11-23T02:00:00Z")).await.unwrap() {
                result.unwrap_or_else(|error| panic!("{feed}: {error}"));
            }
        }
        let expected = [
            "T1|H35-2026-000601|1150000|settled|2026-11-20T01:15:09Z|",
            "T2|H35-2026-000602|85000|pending|2026-11-20T01:16:00Z|",
        ];
        assert_eq!(kept(&bench).await, expected, "{name}: {}", bench.rejected("gateway-1"));
    }
}

#[tokio::test]
async fn a_footer_must_hold_before_a_row_is_taken() {
    let gateway = "csv:
        dir: in
        footer: {begins: Tổng cộng, count: Số GD, total: Số tiền}
        amount: {divide: 100}
        columns: {txn_ref: Mã, amount: Số tiền, status: Trạng thái, time: Giờ}";
    let rows = "Mã,Số GD,Số tiền,Trạng thái,Giờ\nT1,,15000000,settled,2026-11-20T08:15:00\nT2,,8500000,settled,2026-11-20T08:16:00\n";
    for (name, footer, reason) in [
        ("sound", "TỔNG CỘNG:,2,23500000,,\nNgười lập biểu,,,,\n", ""),
        ("another count", "Tổng cộng,3,23500000,,\n", "file_totals"),
        ("another sum", "Tổng cộng,2,23500001,,\n", "file_totals"),
        ("no number", "Tổng cộng,hai,23500000,,\n", "file_totals"),
        ("cut off", "", "file_truncated"),
    ] {
        let (bench, mut reconciler) = bench_with(gateway).await;
        bench.write("in/x.csv", format!("{rows}{footer}"));
        // What has no footer is waited for first.
        for _ in 0..7 {
            for (feed, result) in reconciler.poll(at("2026-11-23T02:00:00Z")).await.unwrap() {
                result.unwrap_or_else(|error| panic!("{feed}: {error}"));
            }
        }
        let rejected = bench.rejected("gateway-1");
        if reason.is_empty() {
            assert_eq!((kept(&bench).await.len(), rejected.as_str()), (2, ""), "{name}");
        } else {
            assert!(kept(&bench).await.is_empty(), "{name}: no row of it is taken");
            assert!(rejected.contains(reason), "{name}: {rejected}");
        }
        if name == "cut off" {
            bench.write("in/x.csv", format!("{rows}Tổng cộng,2,23500000,,\n"));
            for _ in 0..2 {
                reconciler.poll(at("2026-11-23T03:00:00Z")).await.unwrap();
            }
            assert_eq!(kept(&bench).await.len(), 2, "the whole file came");
        }
    }
}
