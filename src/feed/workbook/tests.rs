//! Workbooks as programs write them and as nobody should.

use super::{Limits, WorkbookError, open};
use crate::feed::testing::workbooks::{self as made, Part};
use std::io::Write;

/// All rows of a sheet: number and cells, each as its type and text.
fn rows(bytes: &[u8], sheet: Option<&str>) -> Result<Vec<(u32, Vec<String>)>, WorkbookError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut rows = open(file, bytes.len() as u64, sheet, Limits::DAEMON)?;
    let mut all = Vec::new();
    while let Some(row) = rows.read()? {
        let cells = (0..row.len()).map(|cell| match row.value(cell) {
            Ok(value) if value.as_str().is_empty() => String::new(),
            Ok(value) => format!("{value:?}"),
            Err(rejection) => rejection.to_string(),
        });
        all.push((row.number, cells.collect()));
    }
    Ok(all)
}

fn refused(bytes: &[u8]) -> String {
    match rows(bytes, None) {
        Ok(rows) => panic!("read {} rows", rows.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_spreadsheet_program_writes_is_read_as_it_is_typed() {
    use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook};
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Ẩn").unwrap().set_hidden(true).write(0, 0, "x").unwrap();
    let sheet = workbook.add_worksheet().set_name("Giao dịch").unwrap().set_active(true);
    sheet.merge_range(0, 0, 0, 3, "BẢNG KÊ", &Format::new()).unwrap();
    for (column, text) in ["Mã GD", "Số tiền", "Thời gian", "Ghi chú"].into_iter().enumerate() {
        sheet.write(2, column as u16, text).unwrap();
    }
    let time = ExcelDateTime::parse_from_str("2026-11-20T08:15:07").unwrap();
    sheet.write(3, 0, "GD-1").unwrap().write(3, 1, 150_000).unwrap();
    sheet.write_with_format(3, 2, &time, &Format::new().set_num_format("dd/mm/yyyy hh:mm:ss")).unwrap();
    sheet.write(3, 3, "<đã & trả>\n").unwrap();
    sheet.write(5, 0, "GD-2").unwrap().write(5, 1, "1.500.000 đ").unwrap();
    sheet.write(5, 2, Formula::new("=NOW()").set_result("46346.5")).unwrap();
    sheet.write(5, 3, true).unwrap();
    let read = rows(&workbook.save_to_buffer().unwrap(), None).unwrap();
    let text = |text: &str| format!("Text({text:?})");
    assert_eq!(read[0], (1, vec![text("BẢNG KÊ")]));
    assert_eq!(read[1], (3, ["Mã GD", "Số tiền", "Thời gian", "Ghi chú"].map(text).to_vec()));
    let first =
        [text("GD-1"), "Number(\"150000\")".into(), "Time(\"2026-11-20T08:15:07\")".into(), text("<đã & trả>\n")];
    assert_eq!(read[2], (4, first.to_vec()));
    let second = [text("GD-2"), text("1.500.000 đ"), "Number(\"46346.5\")".into(), "Number(\"1\")".into()];
    assert_eq!(read[3], (6, second.to_vec()));
    assert_eq!(read.len(), 4);
}

#[test]
fn cells_say_what_they_cannot_tell() {
    let row = "<row r=\"7\"><c r=\"A7\"><f>1+1</f></c><c r=\"B7\" t=\"e\"><v>#N/A</v></c>\
        <c r=\"D7\"><v>1.23456789012346E+18</v></c><c r=\"E7\" s=\"1\"><v>60</v></c><c r=\"F7\" s=\"9\"><v>60</v></c>\
        <c r=\"G7\" t=\"d\"><v>2026-11-20T08:00:00</v></c><c r=\"H7\" t=\"s\"><v>1</v></c>\
        <c r=\"I7\" t=\"str\"><f>A1</f><v>_x0041_&amp;&#66;_x</v></c><c r=\"J7\"><v>NaN</v></c></row>";
    let strings = "<si><t>a</t></si><si><r><t>Đã </t></r><r><t>trả</t></r><rPh><t>x</t></rPh></si>";
    let read = rows(&made::workbook(row, strings), None).unwrap();
    let expected = [
        "cell: a formula without its value: save the file in a spreadsheet program, which calculates it",
        "cell: the cell shows the error \"#N/A\"",
        "",
        "cell: \"1234567890123460000\" has lost digits: a long number must be entered as text",
        "cell: \"60\" is no day of a calendar",
        "Number(\"60\")",
        "Time(\"2026-11-20T08:00:00\")",
        "Text(\"Đã trả\")",
        "Text(\"A&B_x\")",
        "Text(\"NaN\")",
    ];
    assert_eq!(read, [(7, expected.map(String::from).to_vec())]);
}

#[test]
fn the_sheet_and_the_epoch_are_those_that_the_workbook_names() {
    let mut parts = made::around_named(&["Bìa", "Đối soát"], "date1904=\"1\"");
    parts.push(Part::new("xl/worksheets/sheet1.xml", made::sheet("").as_bytes()));
    let cell = "<row><c s=\"1\"><v>44884.5</v></c></row>";
    parts.push(Part::new("XL/worksheets/Sheet2.xml", made::sheet(cell).as_bytes()));
    let file = made::zip(&parts);
    assert!(rows(&file, None).unwrap().is_empty());
    let read = rows(&file, Some("  ĐỐI  soát")).unwrap();
    assert_eq!(read, [(1, vec!["Time(\"2026-11-20T12:00:00\")".to_string()])]);
    let error = rows(&file, Some("Sheet1")).unwrap_err();
    assert!(matches!(&error, WorkbookError::NoSheet(detail) if detail.contains("\"Bìa\", \"Đối soát\"")), "{error}");
}

#[test]
fn a_file_that_is_cut_off_may_still_be_written_and_another_is_no_workbook() {
    let whole = made::workbook(&made::text_row(1, &["a"]), "");
    for length in [4, whole.len() / 2, whole.len() - 1] {
        let error = rows(&whole[..length], None).unwrap_err();
        assert!(matches!(error, WorkbookError::Unfinished), "{length}: {error}");
    }
    for (bytes, expected) in [
        (&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more"[..], "an old .xls workbook, or has a password"),
        (b"txn_ref,amount\n1,2\n", "it is not a zip archive"),
        (&[0; 4_096], "it is not a zip archive"),
    ] {
        let error = refused(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_unpacks_to_more_than_it_should_is_refused_before_it_is_kept() {
    let strings = |announced| Part::bomb("xl/sharedStrings.xml", b"<sst>", &[b' '; 1 << 20], 4_096, announced);
    let sheet = |begin: &[u8], unit: &[u8]| Part::bomb("xl/worksheets/sheet1.xml", begin, unit, 512, 500 << 20);
    let small = || Part::new("xl/worksheets/sheet1.xml", made::sheet("").as_bytes());
    let begin = b"<worksheet><sheetData><row><c><v>";
    let many: Vec<Part> = (0..5_000).map(|n| Part::new(&format!("p{n}"), b"")).collect();
    for (name, last, expected) in [
        ("announces too much", vec![strings(3 << 30), small()], "unpacks to 3072 MiB, at most 32 MiB are read"),
        ("announces too little", vec![strings(1_000), small()], "unpacks to more than it announces"),
        ("one text", vec![sheet(begin, &[b'1'; 1 << 20])], "a tag or text is longer than 262144 bytes"),
        ("one tag", vec![sheet(b"<worksheet ", &[b'a'; 1 << 20])], "a tag or text is longer than 262144 bytes"),
        ("one cell of many texts", vec![sheet(begin, &b"&amp;".repeat(50_000))], "longer than a cell can be"),
        ("nested for ever", vec![sheet(b"<worksheet>", &b"<a>".repeat(50_000))], "nested deeper than 64"),
        ("many parts", many, "more than 4096 parts"),
    ] {
        let mut parts = made::around();
        parts.extend(last);
        let error = refused(&made::zip(&parts));
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn damage_is_named() {
    let one = made::text_row(1, &["a"]);
    let rows = |rows: &str| made::workbook(rows, "<si><t>a</t></si>");
    let flip = |at: usize| {
        let mut bytes = rows(&one);
        bytes[at] ^= 0x55;
        bytes
    };
    let entity =
        Part::new("xl/worksheets/sheet1.xml", b"<!DOCTYPE x [<!ENTITY a \"b\">]><worksheet><sheetData/></worksheet>");
    let mut defines = made::around();
    defines.push(entity);
    for (name, bytes, expected) in [
        ("rows out of order", rows(&format!("{one}{one}")), "the row after row 1 is out of its place"),
        ("row beyond the last", rows("<row r=\"1048577\"/>"), "the row after row 0 is out of its place"),
        (
            "cells out of order",
            rows("<row r=\"1\"><c r=\"B1\"/><c r=\"A1\"/></row>"),
            "row 1 has a cell out of its place",
        ),
        ("cell beyond the last", rows("<row r=\"1\"><c r=\"XFE1\"/></row>"), "row 1 has a cell out of its place"),
        ("no such string", rows("<row r=\"1\"><c t=\"s\"><v>9</v></c></row>"), "row 1 names a shared string"),
        ("unclosed", rows("<row r=\"1\"><c><v>"), "the workbook is damaged"),
        ("unknown entity", rows("<row r=\"1\"><c><v>&a;</v></c></row>"), "an entity that is not defined"),
        ("defined entity", made::zip(&defines), "it defines entities"),
        ("no sheet", made::zip(&made::around()), "the sheet that it lists is not there"),
        ("no list of sheets", made::zip(&[Part::new("a.txt", b"a")]), "it has no list of sheets"),
        ("first header", flip(2), "is not where the directory says"),
    ] {
        let error = refused(&bytes);
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn no_flipped_byte_makes_it_panic_or_read_on_for_ever() {
    let rows_xml: String = (1..20).map(|n| made::text_row(n, &["GD-1", "150000"])).collect();
    let whole = made::workbook(&rows_xml, "<si><t>a</t></si>");
    for at in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            if let Ok(read) = rows(&bytes, None) {
                assert!(read.len() <= 19, "{at}");
            }
        }
    }
}
