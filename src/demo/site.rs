//! The demo's configuration: a district with four agencies, written as files so that it is read by the same code as a
//! real one, with intervals fast enough to watch.

use super::devices::Script;
use anyhow::Context;
use jiff::Timestamp;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the simulated outside listens.
pub struct Outside<'a> {
    pub listen: SocketAddr,
    pub ca_pem: &'a str,
    /// Id, name, agency and URL of each portal.
    pub portals: &'a [(&'a str, &'a str, &'a str, String)],
    pub mqtt_port: u16,
    pub smtp_port: u16,
    pub uplink: SocketAddr,
    pub script: &'a Script,
}

/// Whose portal is walked through as a citizen would.
const JOURNEY_AGENCY: &str = "hoi-an";

/// The demo's time zone.
pub fn zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::get("Asia/Ho_Chi_Minh").unwrap_or(jiff::tz::TimeZone::UTC)
}

/// Writes everything under `dir` and returns the configuration file.
pub fn write(dir: &Path, outside: &Outside<'_>) -> anyhow::Result<PathBuf> {
    std::fs::write(dir.join("ca.pem"), outside.ca_pem)?;
    std::fs::write(dir.join("devices.csv"), outside.script.inventory_csv())?;
    std::fs::create_dir_all(dir.join("alerts"))?;
    super::usage::write(dir, Timestamp::now())?;
    for (name, text) in crate::rules::SHIPPED {
        std::fs::write(dir.join(name), faster(text))?;
    }
    let file = dir.join("ioc-watch.yml");
    std::fs::write(&file, configuration(outside)).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn configuration(outside: &Outside<'_>) -> String {
    let mut text = format!(
        r#"# Cấu hình của bản demo: sinh tự động, mọi địa chỉ đều ở máy này.
site: {{name: IOC huyện Thăng Bình (demo), agency: ioc, external_url: "http://{listen}"}}
server: {{listen: "{listen}"}}
data_dir: state
history: {{tick: 1s, window: 10m}}
rules: {{files: ["alerts/*.yml"]}}
people:
  - {{id: truc-ioc, name: Trực IOC, email: truc@ioc.vn.example}}
  - {{id: ct-tinh, name: Chủ tịch UBND tỉnh, email: chutich@tinh.vn.example}}
  - {{id: ct-tam-ky, name: Chủ tịch UBND TP. Tam Kỳ, email: chutich@tamky.vn.example}}
  - {{id: ct-hoi-an, name: Chủ tịch UBND TP. Hội An, email: chutich@hoian.vn.example}}
  - {{id: tc-hoi-an, name: Trưởng phòng Tài chính TP. Hội An, email: taichinh@hoian.vn.example}}
  - {{id: ct-thang-binh, name: Chủ tịch UBND huyện Thăng Bình, email: chutich@thangbinh.vn.example}}
  - {{id: truc-mang, name: Trực mạng của nhà mạng, email: trucmang@vienthong.vn.example}}
agencies:
  - {{id: tinh, name: UBND tỉnh, level: province, leader: ct-tinh}}
  - {{id: ioc, name: Trung tâm IOC, level: operator, parent: tinh, leader: truc-ioc}}
  - {{id: tam-ky, name: UBND TP. Tam Kỳ, level: district, parent: tinh, leader: ct-tam-ky}}
  - {{id: hoi-an, name: UBND TP. Hội An, level: district, parent: tinh, leader: ct-hoi-an, areas: {{payment: tc-hoi-an}}}}
  - {{id: thang-binh, name: UBND huyện Thăng Bình, level: district, parent: tinh, leader: ct-thang-binh}}
  - {{id: vien-thong, name: Doanh nghiệp viễn thông, level: operator, leader: truc-mang}}
dependencies:
  - {{id: duong-truyen, name: Đường truyền của IOC, agency: vien-thong, cause: own_uplink, every: 2s, timeout: 1s, probe: {{tcp: "{uplink}"}}}}
{sites}services:
"#,
        listen = outside.listen,
        uplink = outside.uplink,
        sites = outside.script.sites_yaml("duong-truyen"),
    );
    for (id, name, agency, url) in outside.portals {
        let _ = writeln!(
            text,
            "  - {{id: {id}, name: {name}, agency: {agency}, kind: portal, every: 3s, timeout: 2s, depends_on: [duong-truyen], \
             http: {{url: \"{url}\", body_contains: \"Dịch vụ công\", ca_file: ca.pem}}}}"
        );
    }
    text.push_str(&journey(outside));
    let _ = write!(
        text,
        r#"payments:
  grace: 10s
  settlement_lag: 1d
  portal:
    - csv:
        dir: payments/portal
        columns: {{txn_ref: Mã giao dịch, dossier: Mã hồ sơ, agency: Đơn vị, amount: Số tiền, status: Trạng thái, time: Thời gian}}
        status_map: {{Đã thanh toán: paid, Lỗi: failed}}
        time_format: "%d/%m/%Y %H:%M:%S"
  gateway:
    - csv:
        dir: payments/gateway
        columns: {{txn_ref: Mã GD, dossier: Mã hồ sơ, amount: Số tiền, status: Kết quả, time: Thời gian GD}}
        status_map: {{Thành công: settled}}
        time_format: "%d/%m/%Y %H:%M:%S"
{mqtt}
{usage}devices: {{inventory: devices.csv, offline_after: 8s}}
host: {{every: 5s}}
incidents: {{group_wait: 2s, group_interval: 5s}}
email:
  smtp: smtp://127.0.0.1:{smtp}
  from: "IOC Thăng Bình <ioc@vn.example>"
evaluation:
  schedule: "Mon 07:00"
  recipients: [truc-ioc]
  indicators:
    - {{id: device_availability, title: Tỷ lệ thời gian thiết bị trực tuyến, availability: {{of: device}}, target: 0.98, floor: 0.8, weight: 30}}
"#,
        mqtt = Script::mqtt_yaml(outside.mqtt_port),
        usage = super::usage::SECTION,
        smtp = outside.smtp_port,
    );
    text
}

/// A citizen's way through the portal of Hội An.
fn journey(outside: &Outside<'_>) -> String {
    let Some((.., url)) = outside.portals.iter().find(|(.., agency, _)| *agency == JOURNEY_AGENCY) else {
        return String::new();
    };
    format!(
        r#"  - id: nop-ho-so
    name: Nộp hồ sơ trực tuyến TP. Hội An
    agency: {JOURNEY_AGENCY}
    kind: portal
    every: 4s
    timeout: 3s
    depends_on: [duong-truyen]
    journey:
      ca_file: ca.pem
      steps:
        - {{name: mở trang đăng nhập, get: "{url}dang-nhap", capture: {{csrf: {{css: "input[name=csrf]", attr: value}}}}}}
        - {{name: đăng nhập, post: "{url}dang-nhap", form: {{csrf: "{{{{csrf}}}}", user: cong-dan-thu, password: thu}}}}
        - {{name: nộp hồ sơ, post: "{url}ho-so", json: {{thuTuc: thu}}, json_path: {{"/status": ok}}, capture: {{code: "/maHoSo"}}}}
        - {{name: thanh toán, post: "{url}ho-so/{{{{code}}}}/thanh-toan", json: {{soTien: 0}}, json_path: {{"/status": paid}}}}
        - {{name: giấy hẹn, get: "{url}ho-so/{{{{code}}}}", body_contains: "Đã tiếp nhận"}}
      finally:
        - {{name: rút hồ sơ thử, delete: "{url}ho-so/{{{{code}}}}"}}
"#
    )
}

/// Rules with their waiting times shortened to a twelfth, so that a minute passes in five seconds; steps of 15 s, a usual
/// tick, become the demo's tick.
pub fn faster(rules: &str) -> String {
    const FACTOR: u32 = 12;
    let mut text = String::with_capacity(rules.len());
    for line in rules.lines() {
        let shortened = ["for: ", "keep_firing_for: ", "interval: "].iter().find_map(|key| {
            let (before, value) = line.split_once(key)?;
            let bare = before.trim().is_empty() || before.trim() == "-";
            let length = bare.then(|| seconds(value.trim()))??;
            Some(format!("{before}{key}{}s", (length / FACTOR).as_secs().max(1)))
        });
        text.push_str(&shortened.unwrap_or_else(|| line.replace(":15s]", ":1s]").replace("offset 15s", "offset 1s")));
        text.push('\n');
    }
    text
}

/// `90s`, `5m`, `2h`, `1d`.
fn seconds(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(count * unit))
}

#[cfg(test)]
mod tests {
    use super::faster;

    #[test]
    fn only_waiting_times_become_shorter() {
        let rules = "  - interval: 15s\n    for: 2m\n    expr: increase(x[5m]) > 0\n    keep_firing_for: 1h\n";
        assert_eq!(
            faster(rules),
            "  - interval: 1s\n    for: 10s\n    expr: increase(x[5m]) > 0\n    keep_firing_for: 300s\n"
        );
    }
}
