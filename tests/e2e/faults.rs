//! From a fault to the leader's mailbox and back, while a real Prometheus agrees.

use crate::mosquitto::{Mosquitto, set_password};
use crate::site::{self, Site, leader, number};
use crate::support::daemon::Daemon;
use crate::support::nginx::Nginx;
use crate::support::prometheus::Prometheus;
use crate::support::{Process, wait_for};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const GOOD: &str = "<html><h1>Cổng Dịch vụ công</h1></html>";
/// Each fault has an agency of its own, so that what one does cannot be taken for another.
const AGENCIES: [&str; 5] = ["dung", "treo", "het-han", "sai-noi-dung", "mat-dien"];
/// Of the services: every + timeout + tick + group interval + for (30 s, a twelfth) + group_wait + 5 s.
const BOUND: Duration = Duration::from_secs(2 + 2 + 1 + 1 + 2 + 4 + 5);
/// Of the village: its devices are offline after 3 s of silence, and are looked at every second; for is 1 min, a twelfth.
const VILLAGE_BOUND: Duration = Duration::from_secs(1 + 3 + 1 + 1 + 1 + 5 + 4 + 5);
/// From the recovery to the mail that says so.
const RECOVERY: Duration = Duration::from_secs(20);

#[test]
fn each_fault_reaches_its_leader_once_and_ends_in_the_same_thread() {
    let site = Site::new();
    let mut portals: Vec<Nginx> = AGENCIES[..4]
        .iter()
        .map(|agency| {
            let dir = site.dir().join(format!("nginx-{agency}"));
            std::fs::create_dir_all(&dir).unwrap();
            Nginx::start(&dir, &site.authority.server(&dir, "good", false), GOOD)
        })
        .collect();
    let village = Village::start(&site);
    site.configure(&AGENCIES, &rest(&portals, &village));
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let prometheus = Prometheus::start(site.dir(), site.port, &site.rules, None);
    wait_for("everything to be up", Duration::from_secs(20), || {
        let all = "count(ioc_service_up == 1) + count(ioc_device_up == 1)";
        number(site.port, all).filter(|n| *n == 8.0)
    });

    let watch = Watch { site: &site, prometheus: &prometheus };
    watch.fault("dung", "ServiceDown", BOUND, || portals[0].stop());
    watch.recovery("dung", || portals[0].resume());

    watch.fault("treo", "ServiceHanging", BOUND, || portals[1].freeze(true));
    watch.recovery("treo", || portals[1].freeze(false));

    let dir = site.dir().join("nginx-het-han");
    let mut certify = |expired: bool| {
        portals[2].configure(&site.authority.server(&dir, "other", expired));
        portals[2].stop();
        portals[2].resume();
    };
    watch.fault("het-han", "CertificateExpired", BOUND, || certify(true));
    watch.recovery("het-han", || certify(false));

    watch.fault("sai-noi-dung", "ServiceDown", BOUND, || portals[3].page("<h1>It works!</h1>"));
    watch.recovery("sai-noi-dung", || portals[3].page(GOOD));

    watch.fault("mat-dien", "VillageWithoutCamera", VILLAGE_BOUND, || village.power(false));
    watch.recovery("mat-dien", || village.power(true));

    // Two mails for each fault, and none since.
    for agency in AGENCIES {
        assert_eq!(site.mail.to(&leader(agency)).len(), 2, "{agency}");
    }
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

fn rest(portals: &[Nginx], village: &Village) -> String {
    let mut text = String::from(
        "rules: {files: ['alerts/*.yml']}\nincidents: {group_wait: 4s, group_interval: 2s}\nhost: {every: 1s}\n\
         services:\n",
    );
    for (agency, nginx) in AGENCIES.iter().zip(portals) {
        text += &format!(
            "  - {{id: dvc-{agency}, agency: {agency}, kind: portal, every: 2s, timeout: 2s, http: \
             {{url: 'https://127.0.0.1:{}/', body_contains: Dịch vụ công, ca_file: ca.pem}}}}\n",
            nginx.port
        );
    }
    text + &village.configuration()
}

struct Watch<'a> {
    site: &'a Site,
    prometheus: &'a Prometheus,
}

impl Watch<'_> {
    /// Breaks something: within `bound` its leader gets the one new mail that anybody gets, and Prometheus sees the
    /// same alerts.
    fn fault(&self, agency: &str, alert: &str, bound: Duration, act: impl FnOnce()) {
        let before = self.mails();
        act();
        let begin = Instant::now();
        let address = leader(agency);
        let mails = self.site.mail.wait(&address, 1, bound);
        eprintln!("{agency}: mail after {:.1} s of at most {} s", begin.elapsed().as_secs_f64(), bound.as_secs());
        assert_eq!(mails.len(), 1, "{mails:#?}");
        assert!(mails[0].header("In-Reply-To").is_none(), "a thread of its own");
        self.agree(agency, alert);
        // Both had time to send more.
        assert_eq!(self.site.mail.to(&address).len(), 1, "told once: {:#?}", self.site.mail.to(&address));
        assert_eq!(self.mails(), before + 1, "nobody else was told");
    }

    /// All mails; without those to the site's own leader once the machine of the tests gave a reason to write (it is
    /// busy, its disk is full).
    fn mails(&self) -> usize {
        let own = "count(count_over_time(ALERTS{agency=\"ioc\",severity!=\"info\"}[10m]))";
        let own_reason = number(self.site.port, own).is_some();
        let mails = self.site.mail.mails();
        mails.iter().filter(|mail| !(own_reason && mail.recipient == leader("ioc"))).count()
    }

    /// Mends it: the same person is told in the same thread.
    fn recovery(&self, agency: &str, act: impl FnOnce()) {
        act();
        let begin = Instant::now();
        let mails = self.site.mail.wait(&leader(agency), 2, RECOVERY);
        eprintln!("{agency}: resolved after {:.1} s", begin.elapsed().as_secs_f64());
        assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    }

    /// Prometheus, which scrapes the daemon and evaluates the same files, has the same alerts firing.
    fn agree(&self, agency: &str, alert: &str) {
        const FIRING: &str = "ALERTS{alertstate=\"firing\"}";
        let mut seen = (Default::default(), Default::default());
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let ours = site::firing(&site::query(self.site.port, FIRING));
            let theirs = site::firing(&self.prometheus.query(FIRING));
            let wanted = format!("alertname={alert} agency={agency} ");
            if ours == theirs && ours.iter().any(|text| text.starts_with(&wanted)) {
                eprintln!("{agency}: agreed on {ours:?}");
                return;
            }
            assert!(Instant::now() < deadline, "wanted {wanted}; ours and Prometheus's: {seen:#?}");
            seen = (ours, theirs);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Four cameras over TLS and with a password: three in the village whose power can be cut, one in another.
struct Village {
    broker: Mosquitto,
    is_powered: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    ca: String,
}

impl Village {
    fn start(site: &Site) -> Village {
        let directory = tempfile::tempdir().unwrap();
        site.authority.server(directory.path(), "broker", false);
        set_password(&directory.path().join("passwords"), "ioc", "secret");
        std::fs::write(site.dir().join("mqtt-password"), "secret").unwrap();
        let mut inventory = String::from("id,kind,agency,site,village,name,lat,lon,state\n");
        for number in 1..=4 {
            let village = if number <= 3 { 1 } else { 2 };
            inventory += &format!(
                "cam-{number},camera,mat-dien,thon-{village},Thôn {village},Ngã ba {number},15.7,108.3,installed\n"
            );
        }
        std::fs::write(site.dir().join("devices.csv"), inventory).unwrap();
        let broker = Mosquitto::start_in(
            directory,
            "certfile DIR/broker.crt\nkeyfile DIR/broker.key\nallow_anonymous false\npassword_file DIR/passwords",
        );
        let ca = site.authority.ca_file.display().to_string();
        let (is_powered, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let village = Village { broker, is_powered, stop, ca };
        for number in 1..=4 {
            village.speak(number);
        }
        village
    }

    /// A camera that reports every second, by a client of its own.
    fn speak(&self, number: u32) {
        let child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &self.broker.port.to_string(), "-q", "1", "-l"])
            .args(["--cafile", &self.ca, "-u", "ioc", "-P", "secret"])
            .args(["-t", &format!("ioc/mat-dien/camera/cam-{number}/telemetry")])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub is installed");
        let (is_powered, stop, mut child) = (self.is_powered.clone(), self.stop.clone(), Process(child));
        std::thread::spawn(move || {
            let mut input = child.0.stdin.take().expect("a pipe");
            while !stop.load(Ordering::Relaxed) {
                let speaks = number == 4 || is_powered.load(Ordering::Relaxed);
                if speaks && writeln!(input, r#"{{"fps":25,"recording":true}}"#).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
    }

    fn power(&self, on: bool) {
        self.is_powered.store(on, Ordering::Relaxed);
    }

    fn configuration(&self) -> String {
        format!(
            "devices: {{inventory: devices.csv, offline_after: 3s}}\n\
             mqtt:\n  - id: huyen\n    url: mqtts://127.0.0.1:{}\n    ca_file: ca.pem\n    username: ioc\n    \
             password_file: mqtt-password\n    topics:\n      \
             - {{filter: 'ioc/{{agency}}/{{kind}}/{{device}}/telemetry', qos: 1, decode: json, \
             fields: {{fps: camera_frames_per_second, recording: camera_recording}}}}\n",
            self.broker.port
        )
    }
}

impl Drop for Village {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
