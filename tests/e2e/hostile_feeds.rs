//! Two hundred files that nobody should send: the daemon refuses each for a reason that it keeps, in bounded memory, and
//! other feeds go on.
//!
//! `IOC_WATCH_HOSTILE_LINE=1073741824` makes the longest line as long as its name promises; by default it is shorter, for
//! an unoptimised build takes a minute to hash a gigabyte.

use crate::site::Site;
use crate::support::daemon::Daemon;
use crate::support::wait_for;
use crate::workbooks::{self as made, Part, text_row};
use std::path::Path;
use std::time::{Duration, Instant};

const COLUMNS: &str = "columns: {txn_ref: ref, dossier: dossier, amount: amount, status: status, time: time}, \
                       time_format: '%d/%m/%Y %H:%M'";
const HEADER: &str = "ref,dossier,amount,status,time\n";

struct File {
    /// Also its feed's directory.
    kind: &'static str,
    name: String,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    /// Nothing but zeros, which take no room on the disk.
    Sparse(u64),
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 32) as u8).collect()
    }
}

fn add(files: &mut Vec<File>, kind: &'static str, name: &str, content: impl Into<Vec<u8>>) {
    files.push(File { kind, name: name.to_owned(), content: Content::Bytes(content.into()) });
}

fn long_line() -> Option<u64> {
    std::env::var("IOC_WATCH_HOSTILE_LINE").ok()?.parse().ok()
}

fn binary(files: &mut Vec<File>) {
    let mut dice = Dice(0x10c);
    for n in 0..40_usize {
        let bytes = dice.bytes(1 << (n / 2));
        add(files, "csv", &format!("binary-{n:02}"), bytes);
    }
    for n in 0..20_usize {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.extend(dice.bytes(1 << n));
        add(files, "xlsx", &format!("binary-{n:02}"), bytes);
    }
    let content = Content::Sparse(long_line().unwrap_or(16 << 20));
    files.push(File { kind: "csv", name: "one-line".into(), content });
    let long = "x".repeat(1 << 20);
    for (name, text) in [
        ("long-header", long.clone()),
        ("long-row", format!("{HEADER}{long}\n")),
        ("long-quoted", format!("{HEADER}\"{long}")),
        ("many-fields", ",".repeat(60_000) + "\n"),
        ("many-quotes", format!("{HEADER}{}", "\"\n".repeat(500))),
        ("zeros", format!("{HEADER}{}\n", "\0".repeat(5_000))),
        ("only-mark", "\u{feff}\n".into()),
        ("no-header", "T1,D1,5,paid,20/11/2026 08:00\n".into()),
    ] {
        add(files, "csv", name, text);
    }
}

/// One bad row each, between two good ones.
fn rows(files: &mut Vec<File>) {
    let row = |amount: &str, status: &str, time: &str| format!("T1,D1,{amount},{status},{time}");
    let amounts = [
        "-5",
        "-0,5",
        "1e9",
        "0x10",
        "1.23.456",
        "99999999999999999999",
        "9223372036854775808",
        "--5",
        "NaN",
        "Infinity",
        "=1+1",
        "+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "-2+3",
        "=HYPERLINK(\"\"http://x.vn.example\"\")",
        "５０００",
        "12 34",
        "1,5",
        "5 USD",
        "\u{202e}5",
    ];
    let times = [
        "20/11/0025 08:00",
        "20/11/25 08:00",
        "32/01/2026 08:00",
        "29/02/2026 08:00",
        "00/00/0000 00:00",
        "20/13/2026 08:00",
        "20/11/2026 25:00",
        "20/11/9999 08:00",
        "20/11/-026 08:00",
        "2026-11-20T08:00:00Z",
        "=NOW()",
        "46346",
        "hôm qua",
        "20/11/2026",
        "01/01/1970 07:00",
    ];
    let statuses = ["", "=paid", "PAYED", "0", "đã trả\u{0}", "paid;settled"];
    let mut bad: Vec<String> = Vec::new();
    bad.extend(amounts.map(|amount| row(&format!("\"{amount}\""), "paid", "20/11/2026 08:00")));
    bad.extend(times.map(|time| row("5", "paid", time)));
    bad.extend(statuses.map(|status| row("5", status, "20/11/2026 08:00")));
    bad.extend([
        "=T1,=D1,5,paid,".to_owned(),
        ",,5,paid,20/11/2026 08:00".to_owned(),
        format!("{},D1,5,paid,20/11/2026 08:00", "T".repeat(300)),
        "T1,D1,5,paid".to_owned(),
        "T1,D1,5,paid,20/11/2026 08:00,more".to_owned(),
        "T1,\"D1,5,paid,20/11/2026 08:00".to_owned(),
    ]);
    let good = |n: usize| format!("=G{n},=D{n},1000,paid,20/11/2026 08:00\n");
    for (n, bad) in bad.into_iter().enumerate() {
        add(files, "csv", &format!("row-{n:02}"), format!("{HEADER}{}{bad}\n{}", good(2 * n), good(2 * n + 1)));
    }
    for (n, word) in
        [&b"\xd0\xe3 tr\xeb"[..], b"\xff\xfe\xfd", b"\xc0\xaf", b"\xed\xa0\x80", b"D\x001"].iter().enumerate()
    {
        let text = [HEADER.as_bytes(), b"T1,", word, b",5,paid,20/11/2026 08:00\n"].concat();
        add(files, "csv", &format!("encoding-{n}"), text);
    }
    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    add(files, "csv", "utf-16-without-mark", utf16.clone());
    let mixed = [b"\xff\xfe", utf16.as_slice(), b"T1,D1,5,paid,20/11/2026 08:00\n"].concat();
    add(files, "csv", "utf-16-then-not", mixed);
}

fn totals(files: &mut Vec<File>) {
    let body = "T1,D1,1000,paid,20/11/2026 08:00\nT2,D2,2000,paid,20/11/2026 08:00\n";
    for (n, footer) in [
        "",
        "Tổng,3,3000,,\n",
        "Tổng,1,3000,,\n",
        "Tổng,2,3001,,\n",
        "Tổng,2,-3000,,\n",
        "Tổng,2,,,\n",
        "Tổng,,3000,,\n",
        "Tổng,hai,3000,,\n",
        "Tổng,2,=SUM(C2:C3),,\n",
        "Tổng,2,99999999999999999999,,\n",
        "Tổng,-2,3000,,\n",
        "Tổng\n",
        "\"Tổng,2,3000,,\n",
        "T3,D3,1,paid,20/11/2026 08:00\nTổng,2,3000,,\n",
        "Tong,2,3000,,\n",
    ]
    .into_iter()
    .enumerate()
    {
        add(files, "totals", &format!("footer-{n:02}"), format!("{HEADER}{body}{footer}"));
    }
}

fn workbooks(files: &mut Vec<File>) {
    let header = text_row(1, &["ref", "dossier", "amount", "status", "time"]);
    let cells = |amount: &str, time: &str| {
        let text = |text: &str| format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>");
        format!("{header}<row r=\"2\">{}{}{amount}{}{time}</row>", text("T1"), text("D1"), text("paid"))
    };
    let good = "<c s=\"1\"><v>46346.5</v></c>";
    let sheet = |begin: &[u8], unit: &[u8], n| Part::bomb("xl/worksheets/sheet1.xml", begin, unit, n, 500 << 20);
    let strings = |unit: &[u8], announced| Part::bomb("xl/sharedStrings.xml", b"<sst>", unit, 4_096, announced);
    let small = || Part::new("xl/worksheets/sheet1.xml", made::sheet(&header).as_bytes());
    let cell = b"<worksheet><sheetData><row><c><v>";
    let names: Vec<String> = (0..3_000).map(|n| format!("S{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bombs: Vec<(&str, Vec<Part>)> = vec![
        ("bomb-strings", vec![strings(&[b' '; 1 << 20], 3 << 30), small()]),
        ("bomb-lies", vec![strings(&[b' '; 1 << 20], 1_000), small()]),
        ("bomb-count", vec![strings(&b"<si/>".repeat(10_000), 4 << 20), small()]),
        ("bomb-text", vec![sheet(cell, &[b'1'; 1 << 20], 400)]),
        ("bomb-tag", vec![sheet(b"<worksheet ", &[b'a'; 1 << 20], 400)]),
        ("bomb-entities", vec![sheet(cell, &b"&amp;".repeat(50_000), 400)]),
        ("bomb-depth", vec![sheet(b"<worksheet>", &b"<a>".repeat(50_000), 400)]),
        ("bomb-attributes", vec![sheet(b"<worksheet><sheetData><row ", &b"a='' ".repeat(50_000), 400)]),
        ("bomb-directory", (0..9_000).map(|n| Part::new(&format!("p{n}"), b"")).collect()),
        ("bomb-doctype", vec![Part::new("xl/worksheets/sheet1.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><worksheet/>")]),
        ("no-rows", vec![small()]),
        ("no-sheet", vec![]),
    ];
    for (name, parts) in bombs {
        let mut all = made::around();
        all.extend(parts);
        // A header and nothing behind it is no fault: here its announced strings are.
        if name == "no-rows" {
            all.push(Part { announced: 7, ..Part::new("xl/sharedStrings.xml", b"<sst></sst>") });
        }
        add(files, "xlsx", name, made::zip(&all));
    }
    add(files, "xlsx", "many-sheets", made::zip(&made::around_named(&names, "")));
    let header_only = made::workbook("", "");
    add(files, "xlsx", "empty-sheet", header_only.clone());
    add(files, "xlsx", "old", [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[7; 9_000]].concat());
    add(files, "xlsx", "csv", HEADER.as_bytes());
    for (n, length) in [5, 60, 200, header_only.len() - 30, header_only.len() - 1].into_iter().enumerate() {
        add(files, "xlsx", &format!("cut-{n}"), &header_only[..length]);
    }
    for (n, (amount, time)) in [
        ("<c><v>-5</v></c>", good),
        ("<c><v>1E+300</v></c>", good),
        ("<c><v>0.5</v></c>", good),
        ("<c><v>NaN</v></c>", good),
        ("<c><f>1+1</f></c>", good),
        ("<c t=\"e\"><v>#REF!</v></c>", good),
        ("<c t=\"b\"><v>true</v></c>", good),
        ("<c t=\"str\"><v>=1+1</v></c>", good),
        ("<c t=\"s\"><v>99</v></c>", good),
        ("<c><v>5</v></c>", "<c s=\"1\"><v>60</v></c>"),
        ("<c><v>5</v></c>", "<c s=\"1\"><v>-1</v></c>"),
        ("<c><v>5</v></c>", "<c s=\"1\"><v>9</v></c>"),
        ("<c><v>5</v></c>", "<c s=\"1\"><v>2958465</v></c>"),
        ("<c><v>5</v></c>", "<c t=\"d\"><v>0025-11-20</v></c>"),
        ("<c><v>5</v></c>", "<c><v>46346.5</v></c>"),
        ("<c r=\"A2\"><v>5</v></c>", good),
        ("<c r=\"XFE2\"><v>5</v></c>", good),
        ("<c><v>5</v></c>", "<c><v>&bomb;</v></c>"),
    ]
    .into_iter()
    .enumerate()
    {
        add(files, "xlsx", &format!("cell-{n:02}"), made::workbook(&cells(amount, time), ""));
    }
    let whole = made::workbook(&cells("<c><v>x</v></c>", good), "");
    let mut dice = Dice(0xb17);
    for n in 0..23 {
        let mut bytes = whole.clone();
        // In the packed sheet or its neighbours: always at least the bad amount is left to refuse.
        let at = (dice.next() as usize) % bytes.len();
        bytes[at] ^= 0xff;
        add(files, "xlsx", &format!("flip-{n:02}"), bytes);
    }
}

fn write(dir: &Path, file: &File) {
    let end = if file.kind == "xlsx" { "xlsx" } else { "csv" };
    let path = dir.join(file.kind).join(format!("{}.{end}", file.name));
    match &file.content {
        Content::Bytes(bytes) => std::fs::write(path, bytes).unwrap(),
        Content::Sparse(length) => std::fs::File::create(path).unwrap().set_len(*length).unwrap(),
    }
}

/// The most memory that the process has held, MiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn two_hundred_hostile_files_are_refused_one_by_one_in_bounded_memory_while_other_feeds_go_on() {
    let mut files = Vec::new();
    binary(&mut files);
    rows(&mut files);
    totals(&mut files);
    workbooks(&mut files);
    assert!(files.len() >= 200, "{} files", files.len());

    let site = Site::new();
    for kind in ["csv", "xlsx", "totals", "good", "gateway"] {
        std::fs::create_dir_all(site.dir().join(kind)).unwrap();
    }
    let footer = "footer: {begins: Tổng, count: dossier, total: amount}";
    site.configure(
        &["tam-ky"],
        &format!(
            "payments:\n  portal:\n    - {{id: csv, csv: {{dir: csv, {COLUMNS}}}}}\n    \
             - {{id: xlsx, xlsx: {{dir: xlsx, {COLUMNS}}}}}\n    - {{id: totals, csv: {{dir: totals, {footer}, {COLUMNS}}}}}\n    \
             - {{id: good, csv: {{dir: good, {COLUMNS}}}}}\n  gateway: [{{csv: {{dir: gateway, {COLUMNS}}}}}]\n"
        ),
    );
    for file in &files {
        write(site.dir(), file);
    }
    let begin = Instant::now();
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    std::fs::write(site.dir().join("good/1.csv"), format!("{HEADER}GOOD,D-GOOD,5000,paid,20/11/2026 08:00\n")).unwrap();
    wait_for("the good file to be read beside the others", Duration::from_secs(20), || {
        daemon.metric("ioc_feed_rows_total{agency=\"ioc\",feed=\"good\"}").filter(|n| *n == 1.0)
    });
    let good = begin.elapsed();
    let rejected = site.dir().join("data/rejected");
    let is_refused = |file: &&File| {
        let begins = format!("{}.", file.name);
        let kept = std::fs::read_dir(rejected.join(file.kind)).into_iter().flatten().flatten();
        kept.map(|kept| kept.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with(&begins) && name.ends_with(".csv"))
    };
    let patience = Duration::from_secs(if long_line().is_some() { 1_200 } else { 120 });
    let deadline = Instant::now() + patience;
    loop {
        let left: Vec<&str> = files.iter().filter(|file| !is_refused(file)).map(|file| file.name.as_str()).collect();
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "not refused: {left:?}; the log:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let peak = peak(daemon.pid());
    println!(
        "{} hostile files refused in {:.1} s, a good one read after {:.1} s, peak memory {peak} MiB",
        files.len(),
        begin.elapsed().as_secs_f64(),
        good.as_secs_f64()
    );
    assert!(peak < 200, "{peak} MiB");
    for kept in ["csv", "xlsx", "totals"].iter().flat_map(|feed| std::fs::read_dir(rejected.join(feed)).unwrap()) {
        let path = kept.unwrap().path();
        if path.extension().is_some_and(|end| end == "csv") {
            let bytes = std::fs::read(&path).unwrap();
            let mut reader = csv::Reader::from_reader(bytes.as_slice());
            for record in reader.byte_records() {
                let record = record.unwrap();
                assert!(!record[2].is_empty(), "{}: a reason", path.display());
                let formula = record.iter().find(|cell| matches!(cell.first(), Some(b'=' | b'+' | b'-' | b'@')));
                assert!(formula.is_none(), "{}: {:?}", path.display(), formula.map(String::from_utf8_lossy));
            }
        }
    }
    // What stood beside the bad rows was taken, and its formulas are text for whoever opens our table.
    let (_, table) = crate::support::get(site.port, "/api/ioc/v1/mismatches?format=csv&state=all").unwrap();
    assert!(!table.lines().any(|line| line.contains(",=") || line.starts_with('=')), "{table}");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
