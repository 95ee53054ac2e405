//! What the demo's applications and dossiers have come to: files as an office application, a one-stop system and a web server
//! leave them.

use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;
use std::path::Path;

/// The section of the demo's configuration.
pub const SECTION: &str = r#"usage:
  - app: qoffice
    feed:
      csv: {dir: usage, columns: {agency: Đơn vị, active_users: Người dùng, from: Từ, to: Đến}}
  - app: dvc
    access_log:
      file: web/dvc.log
      agency_of: {"10.20.0.0/16": tam-ky, "10.30.0.0/16": hoi-an, "10.40.0.0/16": thang-binh}
      events: {nop-ho-so: "^/ho-so/nop"}
  - app: motcua
    dossier_list:
      csv: {dir: dossiers, columns: {dossier: Mã hồ sơ, agency: Đơn vị, channel: Kênh, submitted: Nộp, receipted: Giấy hẹn, due: Hẹn trả, processed: Xong, paid: Nộp phí, returned: Trả, apology: Thư xin lỗi}}
    targets:
      - {id: truc-tuyen, name: Hồ sơ trực tuyến trong năm, agency: tam-ky, channel: online, goal: 20, every: year}
      - {id: truc-tuyen, name: Hồ sơ trực tuyến trong năm, agency: tinh, channel: online, goal: 5000, every: year}
"#;

/// Writes everything under `dir`.
pub fn write(dir: &Path, now: Timestamp) -> std::io::Result<()> {
    for (file, text) in
        [("usage/qoffice.csv", users(now)), ("web/dvc.log", access_log(now)), ("dossiers/motcua.csv", dossiers(now))]
    {
        let path = dir.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// Users of the office application a day, for the last ten days.
fn users(now: Timestamp) -> String {
    let mut text = String::from("Đơn vị,Người dùng,Từ,Đến\n");
    let today = now.to_zoned_datetime(super::site::zone()).date();
    for days in (0..10).rev() {
        let from = today - SignedDuration::from_hours(24 * days);
        let to = from + SignedDuration::from_hours(24);
        for (agency, users) in [("tam-ky", 42 - days), ("hoi-an", 35), ("thang-binh", 3 + days % 2)] {
            let _ = writeln!(text, "{agency},{users},{from}T00:00:00,{to}T00:00:00");
        }
    }
    text
}

/// An hour of visits, a robot among them.
fn access_log(now: Timestamp) -> String {
    let mut text = String::new();
    for n in 0..180_i64 {
        let time = (now - SignedDuration::from_secs(20 * (180 - n))).to_zoned_datetime(super::site::zone());
        let time = time.strftime("%d/%b/%Y:%H:%M:%S %z");
        let network = 20 + 10 * (n % 3);
        let path = if n % 7 == 0 { "/ho-so/nop" } else { "/" };
        let status = if n % 31 == 0 { 502 } else { 200 };
        let agent =
            if n % 13 == 0 { "Mozilla/5.0 (compatible; Googlebot/2.1)" } else { "Mozilla/5.0 (Windows NT 10.0)" };
        let host = n * 7 % 50;
        let _ =
            writeln!(text, "10.{network}.0.{host} - - [{time}] \"GET {path} HTTP/1.1\" {status} 512 \"-\" \"{agent}\"");
    }
    text
}

/// Dossiers of the last four weeks. What is late is the province's own: districts have other troubles in the story.
fn dossiers(now: Timestamp) -> String {
    let mut text = String::from("Mã hồ sơ,Đơn vị,Kênh,Nộp,Giấy hẹn,Hẹn trả,Xong,Nộp phí,Trả,Thư xin lỗi\n");
    let at = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let hours = |n: i64| SignedDuration::from_hours(n);
    for n in 0..84_i64 {
        let submitted = now - hours(8 * (84 - n));
        let agency = ["tam-ky", "hoi-an", "thang-binh"][(n % 3) as usize];
        let channel = if n % 4 == 0 { "counter" } else { "online" };
        let done = if n < 78 { at(submitted + hours(40)) } else { Default::default() };
        let (slip, due) = (at(submitted + SignedDuration::from_mins(2)), at(submitted + hours(24 * 21)));
        let _ = writeln!(text, "H49-{n:04},{agency},{channel},{},{slip},{due},{done},{done},{done},", at(submitted));
    }
    let late = now - hours(24 * 30);
    let recent = at(now - SignedDuration::from_secs(5));
    let _ = writeln!(text, "H49-9001,tinh,online,{},{},{},,,,", at(late), at(late), at(late + hours(24 * 20)));
    let _ = writeln!(text, "H49-9002,tinh,online,{},,,,,,", at(now - hours(3)));
    // Done today, so that the month has something of every step from its first hour.
    let _ = writeln!(text, "H49-9003,tinh,online,{},{},,{recent},{recent},{recent},", at(late), at(late));
    let _ = writeln!(text, "H49-9004,tinh,online,{recent},{recent},,,,,");
    text
}
