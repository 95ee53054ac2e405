//! Two files against each other: delimited text, and workbooks.

use super::*;

fn reconciliation() -> Reconciliation {
    let options = Options {
        grace: Duration::from_secs(900),
        settlement_lag: Duration::from_secs(86_400),
        match_window: Duration::from_secs(86_400),
        as_of: "2026-11-25T00:00:00Z".parse().unwrap(),
        zone: TimeZone::fixed(jiff::tz::offset(7)),
    };
    Reconciliation::new(options, 4)
}

fn reconcile(portal: &str, gateway: &str) -> Outcome {
    let mut reconciliation = reconciliation();
    reconciliation.read(Side::Portal, portal.as_bytes(), b',', &Given::default(), |_| {}).unwrap();
    reconciliation.read(Side::Gateway, gateway.as_bytes(), b',', &Given::default(), |_| {}).unwrap();
    reconciliation.finish()
}

#[test]
fn every_kind_that_two_files_show_is_found() {
    let portal = "Mã hồ sơ,Mã giao dịch,Số tiền,Trạng thái,Thời gian\n\
        D1,T1,150.000,Đã thanh toán,20/11/2026 08:00\n\
        D2,T2,100,paid,2026-11-20T08:00:00Z\n\
        D3,T3,100,paid,2026-11-18T08:00:00Z\n\
        D4,T4,100,chờ,2026-11-18T08:00:00Z\n\
        D5,T5,100,paid,2026-11-18T08:00:00Z\n\
        D6,A-REFERENCE-THAT-IS-LONGER-THAN-AN-ENTRY,100,paid,2026-11-18T08:00:00Z\n\
        D7,T7,abc,paid,2026-11-18T08:00:00Z\n";
    let gateway = "txn_ref,dossier_id,amount,status,paid_at\n\
        T1,D1,150000,Thành công,2026-11-20T01:00:00Z\n\
        T2,D2,90,settled,2026-11-20T08:00:00Z\n\
        T5,D5,100,failed,2026-11-18T08:00:00Z\n\
        A-REFERENCE-THAT-IS-LONGER-THAN-AN-ENTRY,D6,100,settled,2026-11-18T08:00:00Z\n\
        T8,D1,150000,settled,2026-11-20T02:00:00Z\n\
        T9,D9,70,settled,2026-11-20T02:00:00Z\n\
        T10,D9,70,settled,2026-11-20T03:00:00Z\n\
        T11,D11,70,settled,2026-11-24T23:59:00Z\n";
    let outcome = reconcile(portal, gateway);
    let found: Vec<(&str, Kind)> = outcome.exceptions.iter().map(|e| (e.txn_ref.as_str(), e.kind)).collect();
    let expected = [
        ("T2", Kind::AmountDiffers),
        ("T3", Kind::RecordedNotPaid),
        ("T5", Kind::StatusConflict),
        ("T8", Kind::PaidTwice),
        ("T9", Kind::PaidNotRecorded),
        ("T10", Kind::PaidTwice),
    ];
    assert_eq!(found, expected);
    assert_eq!((outcome.portal_rows, outcome.gateway_rows), (7, 8));
    assert_eq!((outcome.matched, outcome.waiting, outcome.rejected), (2, 2, 1));
    assert_eq!((outcome.first_rejected[0].1, outcome.first_rejected[0].2.reason), (8, Reason::Amount));
}

#[test]
fn a_side_without_references_parts_and_refunds_are_understood() {
    let portal = "Mã hồ sơ,Số tiền,Thời gian\n\
        D1,100,2026-11-18T08:00:00Z\n\
        D2,80,2026-11-18T08:00:00Z\n\
        D3,70,2026-11-18T08:00:00Z\n";
    let gateway = "ref,Mã hồ sơ,amount,status,time,refund_of\n\
        G1,D1,100,settled,2026-11-18T09:00:00Z,\n\
        G2,D2,50,settled,2026-11-18T08:00:00Z,\n\
        G3,D2,30,settled,2026-11-19T08:00:00Z,\n\
        G4,D4,60,settled,2026-11-18T08:00:00Z,\n\
        R4,,-60,refunded,2026-11-19T08:00:00Z,G4\n";
    let outcome = reconcile(portal, gateway);
    let found: Vec<(&str, &str, Kind)> =
        outcome.exceptions.iter().map(|e| (e.dossier.as_str(), e.txn_ref.as_str(), e.kind)).collect();
    assert_eq!(found, [("D3", "", Kind::RecordedNotPaid)]);
    assert_eq!((outcome.matched, outcome.waiting, outcome.rejected), (5, 0, 0));
}

#[test]
fn workbooks_are_compared_as_the_same_rows_of_text() {
    use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "SAO KÊ").unwrap();
    let date = Format::new().set_num_format("dd/mm/yyyy hh:mm");
    for (column, text) in ["Mã GD", "Mã hồ sơ", "Số tiền", "Kết quả", "Ngày GD"].into_iter().enumerate() {
        sheet.write(2, column as u16, text).unwrap();
    }
    let time = ExcelDateTime::parse_from_str("2026-11-18T15:00:00").unwrap();
    for (row, (reference, amount)) in (3..).zip([("T1", 150_000.0), ("T2", 90.0), ("T3", 1.234), ("T4", 1e15)]) {
        sheet.write(row, 0, reference).unwrap().write(row, 1, format!("D{reference}")).unwrap();
        sheet.write(row, 2, amount).unwrap().write(row, 3, "Thành công").unwrap();
        sheet.write_with_format(row, 4, &time, &date).unwrap();
    }
    let bytes = workbook.save_to_buffer().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let mut rows = workbook::open(file, bytes.len() as u64, None, workbook::Limits::COMMAND).unwrap();
    let portal = "Mã hồ sơ,Mã giao dịch,Số tiền,Thời gian\n\
        DT1,T1,150.000,18/11/2026 15:00\nDT2,T2,100,18/11/2026 15:00\n";
    let mut reconciliation = reconciliation();
    reconciliation.read(Side::Portal, portal.as_bytes(), b',', &Given::default(), |_| {}).unwrap();
    reconciliation.read_sheet(Side::Gateway, &mut rows, &Given::default(), |_| {}).unwrap();
    let outcome = reconciliation.finish();
    let found: Vec<(&str, Kind)> = outcome.exceptions.iter().map(|e| (e.txn_ref.as_str(), e.kind)).collect();
    assert_eq!(found, [("T2", Kind::AmountDiffers)]);
    assert_eq!((outcome.portal_rows, outcome.gateway_rows, outcome.matched), (2, 4, 1));
    let rejected: Vec<(u64, Reason)> =
        outcome.first_rejected.iter().map(|(_, line, rejection)| (*line, rejection.reason)).collect();
    assert_eq!(rejected, [(6, Reason::Amount), (7, Reason::Cell)]);
}

#[test]
fn columns_are_guessed_or_given_and_what_is_missing_is_said() {
    let header = |text: &'static str, given: &Given| {
        let mut records = Records::new(text.as_bytes(), b',', Place::START);
        Mapping::find(&records.read().unwrap().unwrap(), given).map(|mapping| mapping.describe())
    };
    let none = Given::default();
    assert_eq!(
        header("MÃ GD,Mã HS,Số tiền (đồng),Kết quả,Ngày GD\n", &none).unwrap(),
        "txn_ref=\"MÃ GD\" dossier=\"Mã HS\" amount=\"Số tiền (đồng)\" status=\"Kết quả\" time=\"Ngày GD\" refund_of=(none)"
    );
    let given = Given::parse("txn_ref=Số CT, amount=Phát sinh có").unwrap();
    let found = header("so ct,Phát sinh có,amount\n", &given).unwrap();
    assert!(found.starts_with("txn_ref=\"so ct\" dossier=(none) amount=\"Phát sinh có\""), "{found}");
    for (text, given, expected) in [
        ("a,b\n", &none, "no column for the amount in [\"a\", \"b\"]"),
        ("amount\n", &none, "no column for the transaction's reference or the dossier"),
        ("so ct,b\n", &given, "amount: no column \"Phát sinh có\" in [\"so ct\", \"b\"]"),
    ] {
        let error = header(text, given).unwrap_err().detail;
        assert!(error.starts_with(expected), "{error}");
    }
    for (text, expected) in [
        ("txn=a", "unknown column \"txn\", allowed: txn_ref, dossier, amount, status, time, refund_of"),
        ("amount", "\"amount\" is not COLUMN=HEADER"),
        ("amount= ", "amount: the header is empty"),
        ("amount=a,amount=b", "amount stands here twice"),
    ] {
        assert_eq!(Given::parse(text).unwrap_err(), expected);
    }
}
