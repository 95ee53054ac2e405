//! The devices behind an alert about a village or site: a mail that says "12 cameras" says which.

use crate::alert::Alert;
use crate::attribution::State;
use crate::config::devices::DeviceKind;
use crate::config::site::Language;
use crate::format;
use crate::gather::device::Fleet;
use crate::gather::device::fleet::{DeviceInfo, Filter, Listed};
use crate::incident::Exhibits;
use jiff::tz::TimeZone;

/// Devices that a mail names; all of them, up to [`ATTACHED`], are attached.
const NAMED: usize = 20;
/// Rows of the attached list. The page `/devices` has them all.
const ATTACHED: usize = 5_000;

/// What does not work of the devices that `alerts` are about, but for alerts about a single one, which name it.
pub fn exhibits(fleet: &Fleet, alerts: &[Alert], language: Language, zone: &TimeZone) -> Exhibits {
    let mut devices: Vec<DeviceInfo> = Vec::new();
    for alert in alerts.iter().filter(|alert| alert.label("device").is_empty()) {
        let kind = DeviceKind::ALL.into_iter().find(|kind| kind.as_str() == alert.label("area"));
        let label = |name: &str| Some(alert.label(name)).filter(|value| !value.is_empty()).map(str::to_owned);
        let (Some(kind), Some(agency)) = (kind, label("agency")) else { continue };
        let (site, village) = (label("site"), label("village"));
        if site.is_none() && village.is_none() {
            continue;
        }
        let installed = Some(vec![Listed::Installed, Listed::Discovered]);
        let filter =
            Filter { agency: Some(agency), kind: Some(kind), site, village, listed: installed, ..Filter::default() };
        devices.extend(fleet.list(&filter, ATTACHED, |_| true).0.into_iter().filter(is_broken));
    }
    devices.sort_by(|a, b| a.id.cmp(&b.id));
    devices.dedup_by(|a, b| a.id == b.id);
    devices.truncate(ATTACHED);
    if devices.is_empty() {
        return Exhibits::default();
    }
    let mut lines: Vec<String> = devices.iter().take(NAMED).map(|device| line(device, language, zone)).collect();
    if devices.len() > NAMED {
        let count = format::integer((devices.len() - NAMED) as i64, language);
        lines.push(match language {
            Language::Vi => format!("và {count} thiết bị nữa trong tệp đính kèm"),
            Language::En => format!("and {count} more in the attached file"),
        });
    }
    let (file, head) = match language {
        Language::Vi => {
            ("thiet-bi", ["Mã", "Tên", "Điểm lắp đặt", "Thôn, khối phố", "Tình trạng", "Tín hiệu cuối", "Đơn vị"])
        }
        Language::En => ("devices", ["Id", "Name", "Site", "Village", "State", "Last seen", "Agency"]),
    };
    let mut rows = vec![head.map(str::to_string).to_vec()];
    rows.extend(devices.iter().map(|device| row(device, language, zone)));
    Exhibits { lines, table: Some((file.to_string(), rows)) }
}

fn is_broken(device: &DeviceInfo) -> bool {
    device.state == Some(State::Down) || device.usable == Some(false)
}

fn line(device: &DeviceInfo, language: Language, zone: &TimeZone) -> String {
    let name = if device.name.is_empty() { String::new() } else { format!(" ({})", device.name) };
    let seen = match (device.last_seen, language) {
        (Some(at), Language::Vi) => format!(", tín hiệu cuối {}", format::date_time(at, zone)),
        (Some(at), Language::En) => format!(", last seen {}", format::date_time(at, zone)),
        (None, Language::Vi) => ", chưa từng có tín hiệu".to_owned(),
        (None, Language::En) => ", never seen".to_owned(),
    };
    format!("{}{name}: {}{seen}", device.id, condition(device, language))
}

fn row(device: &DeviceInfo, language: Language, zone: &TimeZone) -> Vec<String> {
    vec![
        device.id.clone(),
        device.name.clone(),
        device.site.clone(),
        device.village.clone(),
        condition(device, language).to_owned(),
        device.last_seen.map_or(String::new(), |at| format::date_time(at, zone)),
        device.agency.as_deref().unwrap_or_default().to_owned(),
    ]
}

fn condition(device: &DeviceInfo, language: Language) -> &'static str {
    match (device.state, language) {
        (Some(State::Down), Language::Vi) => "mất kết nối",
        (Some(State::Down), Language::En) => "offline",
        (_, Language::Vi) => "trực tuyến nhưng không dùng được",
        (_, Language::En) => "online but not usable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Id;
    use crate::gather::device::Hearer;
    use crate::gather::device::fleet::{Now, Settings};
    use crate::gather::device::inventory::{Inventory, Life, Listing};
    use crate::metrics::Metrics;
    use crate::store::testing::Database;
    use std::sync::Arc;
    use std::time::Duration;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_mail_about_a_village_names_the_devices_that_do_not_work() {
        let listing = |number: usize| Listing {
            id: id(&format!("cam-{number:02}")),
            kind: DeviceKind::Camera,
            agency: id("tam-ky"),
            site: "nvh-1".into(),
            village: if number < 24 { "Thôn 1".into() } else { "Thôn 2".into() },
            name: "Cổng".into(),
            place: None,
            life: Life::Installed,
            offline_after: None,
        };
        let inventory = Inventory { devices: (0..30).map(|number| Arc::new(listing(number))).collect() };
        let settings = Settings {
            discover_max: 0,
            offline_after: Some(Duration::from_secs(180)),
            forget_after: Duration::from_secs(86_400),
            rate_limit: None,
            shard: None,
            agencies: [id("tam-ky")].into(),
            site_agency: id("tam-ky"),
        };
        let database = Database::sqlite().await;
        let ledger = crate::attribution::Ledger::resume(database.store.clone()).await.unwrap();
        let (metrics, now) = (Arc::new(Metrics::new()), Now::read());
        let store = database.store.clone();
        let fleet = Fleet::open(metrics, ledger, store, settings, &inventory, now).await.unwrap();
        {
            let mut session = fleet.session(0, now);
            for number in 0..30 {
                let found = session.find(None, None, &format!("cam-{number:02}"), None).unwrap();
                session.status(found, None, number == 0, false);
            }
        }
        let alert = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let starts_at = jiff::Timestamp::UNIX_EPOCH;
            Alert {
                labels,
                annotations: Default::default(),
                starts_at,
                ends_at: None,
                generator_url: "".into(),
                end_is_assumed: false,
            }
        };
        let village = [("area", "camera"), ("agency", "tam-ky"), ("village", "Thôn 1")];
        let one = [("area", "camera"), ("agency", "tam-ky"), ("village", "Thôn 2"), ("device", "cam-29")];
        let shown = exhibits(&fleet, &[alert(&village), alert(&one)], Language::En, &TimeZone::UTC);
        assert_eq!(shown.lines.len(), 21);
        assert_eq!(shown.lines[0], "cam-01 (Cổng): offline, never seen");
        assert_eq!(shown.lines[20], "and 3 more in the attached file");
        let (file, rows) = shown.table.unwrap();
        assert_eq!((file.as_str(), rows.len()), ("devices", 24), "a header and 23 of the 24: one works");
        let vi = exhibits(&fleet, &[alert(&village)], Language::Vi, &TimeZone::UTC);
        assert_eq!(vi.lines[0], "cam-01 (Cổng): mất kết nối, chưa từng có tín hiệu");
        assert_eq!(exhibits(&fleet, &[alert(&one)], Language::Vi, &TimeZone::UTC), Exhibits::default());
    }
}
