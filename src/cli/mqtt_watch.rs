//! `ioc-watch mqtt-watch`: what arrives at the configured brokers just now, how it is decoded and why something is
//! rejected. The tool for adding a new brand of cameras: nothing is kept, and the daemon's own session is not touched.

use crate::config::site::Language;
use crate::config::{self, Config, Problems};
use crate::gather::device::guest::{Explained, Guest, Heard, Said};
use crate::gather::device::{Outcome, inventory};
use jiff::Timestamp;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_secs(2);
/// Characters of a payload that are shown.
const PAYLOAD: usize = 400;
/// Lines that wait for a slow terminal; what does not fit is left out and counted.
const WAITING: usize = 1_000;

#[derive(Debug, clap::Args)]
pub struct MqttWatch {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Listen to this MQTT filter instead of the configured topics, as in "frigate/#"
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Listen to this broker alone
    #[arg(long, value_name = "ID")]
    broker: Option<String>,
    /// Show only what is rejected
    #[arg(long)]
    rejected: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

impl MqttWatch {
    /// Exit code 0: ended as asked; 1: the configuration has problems, or a broker could not be reached at all; 2: wrong
    /// usage.
    pub fn run(&self) -> ExitCode {
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(problems) => {
                eprint!("{}", super::check::report(&problems));
                return ExitCode::FAILURE;
            }
        };
        let mut problems = Problems::default();
        let inventory = inventory::of(&config, &mut problems);
        let problems = problems.into_sorted();
        if !problems.is_empty() {
            eprint!("{}", super::check::report(&problems));
            return ExitCode::FAILURE;
        }
        let is_wanted = |id: &str| self.broker.as_deref().is_none_or(|wanted| wanted == id);
        let brokers: Vec<_> = config.mqtt.iter().filter(|broker| is_wanted(&broker.id)).collect();
        if brokers.is_empty() {
            let ids: Vec<&str> = config.mqtt.iter().map(|broker| broker.id.as_str()).collect();
            eprintln!("error: no such broker in the section mqtt (it has: {})", ids.join(", "));
            return ExitCode::from(2);
        }
        let mut guests = Vec::new();
        for broker in brokers {
            match Guest::new(&config, broker, inventory.clone(), self.filter.as_deref()) {
                Ok(guest) => guests.push((broker.id.to_string(), guest)),
                Err(error) => {
                    eprintln!("error: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        crate::install_tls_provider();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        };
        runtime.block_on(self.watch(&config, guests))
    }

    async fn watch(&self, config: &Config, guests: Vec<(String, Guest)>) -> ExitCode {
        let (heard, mut hears) = mpsc::channel(WAITING);
        for (broker, guest) in guests {
            tokio::spawn(listen(broker, guest, heard.clone()));
        }
        drop(heard);
        let ends = tokio::time::sleep(Duration::from_secs(self.seconds.unwrap_or(u64::from(u32::MAX))));
        tokio::pin!(ends);
        let view = View { language: config.site.language, is_terminal: std::io::stdout().is_terminal() };
        let (mut n_shown, mut n_connected) = (0, 0);
        while self.count.is_none_or(|count| n_shown < count) {
            let next = tokio::select! {
                next = hears.recv() => next,
                () = &mut ends => None,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some((broker, heard)) = next else { break };
            match heard {
                Heard::Connected => {
                    n_connected += 1;
                    eprintln!("{}", view.connected(&broker));
                }
                Heard::Refused(n) => eprintln!("{}", view.refused(&broker, n)),
                Heard::Lost(reason) => eprintln!("{}", view.lost(&broker, &reason)),
                Heard::Message(message) if self.rejected && message.outcome == Outcome::Ok => {}
                Heard::Message(message) => {
                    let now = Timestamp::now().to_zoned_datetime(config.site.timezone.clone());
                    let time = now.strftime("%H:%M:%S%.3f").to_string();
                    let mut out = std::io::stdout().lock();
                    // A reader that has gone (`| head`) wants no more.
                    if write!(out, "{}", view.message(&time, &broker, &message)).and_then(|()| out.flush()).is_err() {
                        break;
                    }
                    n_shown += 1;
                }
            }
        }
        if n_connected == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

async fn listen(broker: String, mut guest: Guest, heard: mpsc::Sender<(String, Heard)>) {
    loop {
        let next = guest.next().await;
        let is_lost = matches!(next, Heard::Lost(_));
        if heard.send((broker.clone(), next)).await.is_err() {
            return;
        }
        if is_lost {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// How things are put.
struct View {
    language: Language,
    is_terminal: bool,
}

impl View {
    fn pick(&self, vi: &'static str, en: &'static str) -> &'static str {
        match self.language {
            Language::Vi => vi,
            Language::En => en,
        }
    }

    fn connected(&self, broker: &str) -> String {
        match self.language {
            Language::Vi => format!("đã kết nối với {broker}; Ctrl-C để dừng"),
            Language::En => format!("connected to {broker}; Ctrl-C ends it"),
        }
    }

    fn refused(&self, broker: &str, n: usize) -> String {
        match self.language {
            Language::Vi => format!("{broker} từ chối {n} đăng ký chủ đề: xem quyền (ACL) của tài khoản"),
            Language::En => format!("{broker} refuses {n} subscriptions: look at the account's rights (ACL)"),
        }
    }

    fn lost(&self, broker: &str, reason: &str) -> String {
        match self.language {
            Language::Vi => format!("mất kết nối với {broker}: {reason}; đang thử lại"),
            Language::En => format!("no connection to {broker}: {reason}; trying again"),
        }
    }

    fn message(&self, time: &str, broker: &str, message: &Explained) -> String {
        let mut text = String::new();
        let retained = if message.retained { self.pick(" [lưu lại]", " [retained]") } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{time} {broker} {}{retained}", plain(&message.topic));
        let _ = writeln!(text, "    {}", self.payload(&message.payload));
        for said in &message.said {
            let _ = writeln!(text, "    {}", self.said(said));
        }
        for (device, outcome) in &message.refused {
            let _ = writeln!(text, "  {} {}: {}", self.mark(), plain(device), self.why(*outcome));
        }
        if let Some(n_gone) = message.gone {
            let _ = writeln!(text, "    {}", self.gone(n_gone));
        }
        if message.outcome != Outcome::Ok && message.refused.is_empty() {
            let _ = writeln!(text, "  {} {}", self.mark(), self.why(message.outcome));
        }
        text
    }

    /// A recorder, bridge or node is gone.
    fn gone(&self, n_devices: usize) -> String {
        match self.language {
            Language::Vi => format!(
                "→ nguồn đã mất kết nối; các thiết bị nghe được qua nguồn này cũng bị tính là mất kết nối (từ khi theo dõi: {n_devices})"
            ),
            Language::En => format!(
                "→ the source is gone, and so are the devices heard through it (since this watch began: {n_devices})"
            ),
        }
    }

    fn mark(&self) -> &'static str {
        if self.is_terminal { "\x1b[31m✗\x1b[0m" } else { "✗" }
    }

    fn payload(&self, payload: &[u8]) -> String {
        let Ok(text) = std::str::from_utf8(payload) else {
            let shown: Vec<String> = payload.iter().take(PAYLOAD / 10).map(|byte| format!("{byte:02x}")).collect();
            let dots = if payload.len() > shown.len() { " …" } else { "" };
            return format!("{} {}{dots}", self.pick("(không phải UTF-8)", "(not UTF-8)"), shown.join(" "));
        };
        let shown: String = text.chars().take(PAYLOAD).collect();
        let dots = if shown.len() < text.len() { "…" } else { "" };
        format!("{}{dots}", plain(&shown))
    }

    fn said(&self, said: &Said) -> String {
        let kind = said.kind.as_str();
        let mut text = format!("→ {kind} {}", said.device);
        if said.is_discovered {
            text.push_str(self.pick(" (chưa có trong danh mục)", " (in no inventory)"));
        }
        let state = match said.online {
            Some(false) => self.pick("mất kết nối", "offline"),
            _ => self.pick("trực tuyến", "online"),
        };
        let _ = write!(text, ": {state}");
        for (name, value) in &said.readings {
            match value {
                Some(value) => _ = write!(text, ", {name} {value}"),
                None => _ = write!(text, ", {name} {}", self.pick("chưa rõ", "unknown")),
            }
        }
        if said.n_bad > 0 {
            let _ = match self.language {
                Language::Vi => write!(text, "; số trường có giá trị không dùng được: {}", said.n_bad),
                Language::En => write!(text, "; fields with unusable values: {}", said.n_bad),
            };
        }
        text
    }

    fn why(&self, outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Ok => self.pick("được nhận", "taken"),
            Outcome::BadValue => self.pick(
                "có trường mà giá trị không thể đúng: là chữ, ngoài khoảng cho phép, hoặc thiếu tên thiết bị",
                "a field whose value cannot be: text, out of range, or a device without a name",
            ),
            Outcome::Malformed => self.pick(
                "nội dung không như cấu hình của chủ đề (\"decode\")",
                "the payload is not what the topic's \"decode\" says",
            ),
            Outcome::Oversized => self.pick("quá lớn (trên 64 KiB)", "too large (above 64 KiB)"),
            Outcome::RetainedIgnored => self.pick(
                "tin broker lưu lại, chủ đề này không tính (\"retained: status\" chỉ dành cho trạng thái)",
                "retained by the broker, which does not count on this topic (\"retained: status\" is for states)",
            ),
            Outcome::Unlisted => self.pick(
                "không có trong danh mục, và \"discover\" không nhận",
                "in no inventory, and \"discover\" does not admit it",
            ),
            Outcome::Retired => self.pick("danh mục ghi là đã thôi dùng", "the inventory calls it retired"),
            Outcome::UnknownTopic => {
                self.pick("không chủ đề nào trong cấu hình khớp", "no configured topic describes it")
            }
            Outcome::AgencyMismatch => {
                self.pick("danh mục ghi thiết bị của đơn vị khác", "the inventory gives it to another agency")
            }
            Outcome::KindMismatch => {
                self.pick("danh mục ghi là loại thiết bị khác", "the inventory says another kind of device")
            }
            Outcome::Stale => self.pick(
                "đã cũ (theo đồng hồ thiết bị, hoặc là tin báo mất của lần kết nối trước) nên không nói gì về hiện tại",
                "too old to say anything of now (by the device's clock, or the death of an earlier connection)",
            ),
            Outcome::Unborn => self.pick(
                "bí danh (alias) của Sparkplug mà chưa nghe bản tin BIRTH",
                "Sparkplug aliases whose birth was not heard",
            ),
            Outcome::RateLimited => {
                self.pick("nhiều hơn mức \"rate_limit\" cho phép", "more than \"rate_limit\" allows")
            }
            Outcome::OtherShard => self.pick(
                "đơn vị do máy giám sát khác phụ trách (\"shard\")",
                "of an agency that another daemon watches (\"shard\")",
            ),
            Outcome::Coalesced | Outcome::Dropped | Outcome::SessionCleared | Outcome::SubscribeRefused => {
                self.pick("bị bỏ", "dropped")
            }
        }
    }
}

/// Without what could move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::devices::DeviceKind;

    #[test]
    fn a_message_is_shown_with_what_becomes_of_it() {
        let view = View { language: Language::En, is_terminal: false };
        let said = Said {
            device: "cam-1".into(),
            kind: DeviceKind::Camera,
            is_discovered: false,
            online: None,
            readings: vec![("ioc_camera_frames_per_second", Some(24.5)), ("ioc_camera_recording", None)],
            n_bad: 1,
        };
        let message = Explained {
            topic: "ioc/x/cam-1\u{1b}[2J".into(),
            payload: "{\"fps\":24.5,\n\"é\":1}".into(),
            retained: true,
            outcome: Outcome::BadValue,
            said: vec![said],
            refused: vec![("cam-9".into(), Outcome::Unlisted)],
            gone: Some(2),
        };
        assert_eq!(
            view.message("08:00:01.250", "main", &message),
            "08:00:01.250 main ioc/x/cam-1\u{fffd}[2J [retained]\n    \
             {\"fps\":24.5,\u{fffd}\"é\":1}\n    \
             → camera cam-1: online, ioc_camera_frames_per_second 24.5, ioc_camera_recording unknown; \
             fields with unusable values: 1\n  \
             ✗ cam-9: in no inventory, and \"discover\" does not admit it\n    \
             → the source is gone, and so are the devices heard through it (since this watch began: 2)\n"
        );
        let binary = Explained {
            payload: vec![0xff, 0x00],
            said: Vec::new(),
            refused: Vec::new(),
            gone: None,
            outcome: Outcome::UnknownTopic,
            ..message
        };
        let shown = View { language: Language::Vi, ..view }.message("t", "main", &binary);
        assert!(shown.contains("(không phải UTF-8) ff 00\n"), "{shown}");
        assert!(shown.ends_with("✗ không chủ đề nào trong cấu hình khớp\n"), "{shown}");
    }
}
