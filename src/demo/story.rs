//! The demo's story, scene by scene: something breaks, its leader is mailed, it is mended, the leader is told. Each
//! scene waits for what really happened; nothing is announced that was not seen.

use super::devices::Power;
use super::mail::Mailbox;
use super::payments::{Files, Payment};
use super::portal::{Behaviour, Portal};
use super::uplink::Uplink;
use jiff::{SignedDuration, Timestamp};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Before the portal hangs.
const CALM: Duration = Duration::from_secs(20);
/// How long a mail may take before the scene says so and goes on.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long the line stays cut after its owner was told: devices are offline by then.
const CUT: Duration = Duration::from_secs(15);

/// What the story moves.
pub struct Stage {
    /// In the order of `PORTALS`.
    pub portals: Vec<Portal>,
    pub line: Uplink,
    pub power: Power,
    /// The village that goes dark.
    pub village: String,
    pub villages: Vec<&'static str>,
    pub mailbox: Mailbox,
    pub files: Files,
    pub listen: SocketAddr,
}

/// Plays all scenes once.
pub async fn tell(mut stage: Stage) -> anyhow::Result<()> {
    let start = Instant::now();
    say(start, "Mọi thứ bình thường; 20 giây nữa cổng Tam Kỳ sẽ treo", "all is well; in 20 s a portal will hang");
    stage.files.ordinary(Timestamp::now())?;
    tokio::time::sleep(CALM).await;
    stage.hanging_portal(start).await?;
    stage.broken_journey(start).await?;
    stage.unrecorded_payment(start).await?;
    stage.dark_village(start).await?;
    stage.cut_line(start).await?;
    say(start, "Bảng điểm tuần trước", "last week's scorecard");
    eprintln!("          http://{}/reports", stage.listen);
    say(start, "Hết chuyện. Ctrl-C để dừng", "the story is over; Ctrl-C stops");
    Ok(())
}

impl Stage {
    async fn hanging_portal(&mut self, start: Instant) -> anyhow::Result<()> {
        say(start, "Cổng dịch vụ công TP. Tam Kỳ bị treo", "the portal of Tam Kỳ hangs");
        let seen = self.mails_to("chutich@tamky.vn.example")?;
        self.portals[0].behave(Behaviour::Hangs);
        self.told(start, "chutich@tamky.vn.example", seen).await?;
        self.portals[0].behave(Behaviour::Answers);
        say(start, "Cổng hoạt động trở lại", "the portal answers again");
        self.told(start, "chutich@tamky.vn.example", seen + 1).await
    }

    async fn broken_journey(&mut self, start: Instant) -> anyhow::Result<()> {
        let text = "Cổng Hội An vẫn mở được, nhưng bước thanh toán báo lỗi";
        say(start, text, "the portal of Hội An answers, but paying a fee fails");
        let seen = self.mails_to("chutich@hoian.vn.example")?;
        self.portals[1].behave(Behaviour::PaymentFails);
        self.told(start, "chutich@hoian.vn.example", seen).await?;
        self.portals[1].behave(Behaviour::Answers);
        say(start, "Thanh toán được trở lại", "fees can be paid again");
        self.told(start, "chutich@hoian.vn.example", seen + 1).await
    }

    async fn unrecorded_payment(&mut self, start: Instant) -> anyhow::Result<()> {
        let text = "Hồ sơ H49.002-261123-0077 đã thanh toán 75.000 đ nhưng cổng Hội An báo lỗi";
        say(start, text, "a dossier is paid, but the portal of Hội An records an error");
        let seen = self.mails_to("taichinh@hoian.vn.example")?;
        let time = Timestamp::now() - SignedDuration::from_secs(5);
        let payment = |status| Payment {
            txn_ref: "GD26110077",
            dossier: "H49.002-261123-0077",
            agency: "hoi-an",
            amount: 75_000,
            status,
            time,
        };
        self.files.portal(&[payment("Lỗi")])?;
        self.files.gateway(&[payment("Thành công")])?;
        self.told(start, "taichinh@hoian.vn.example", seen).await?;
        self.files.portal(&[payment("Đã thanh toán")])?;
        say(start, "Cổng Hội An đã ghi nhận khoản thanh toán", "the portal has recorded the payment");
        self.told(start, "taichinh@hoian.vn.example", seen + 1).await
    }

    async fn dark_village(&mut self, start: Instant) -> anyhow::Result<()> {
        let village = self.village.clone();
        say(start, &format!("{village} (Thăng Bình) mất điện"), "a village of Thăng Bình loses power");
        let seen = self.mails_to("chutich@thangbinh.vn.example")?;
        self.power.cut(&village);
        self.told(start, "chutich@thangbinh.vn.example", seen).await?;
        self.power.restore(&village);
        say(start, "Có điện trở lại", "power is back");
        self.told(start, "chutich@thangbinh.vn.example", seen + 1).await
    }

    /// The line is cut: portals and devices seem dead from here, and only the line's owner hears of it.
    async fn cut_line(&mut self, start: Instant) -> anyhow::Result<()> {
        say(start, "Đường truyền của IOC bị đứt", "the line of the operations centre is cut");
        let owner = "trucmang@vienthong.vn.example";
        let seen = self.mails_to(owner)?;
        let leaders = self.mails_to_leaders()?;
        self.line.cut();
        self.portals.iter().for_each(|portal| portal.behave(Behaviour::Unreachable));
        self.villages.iter().for_each(|village| self.power.cut(village));
        self.told(start, owner, seen).await?;
        // Long enough for every portal and device to be missed.
        tokio::time::sleep(CUT).await;
        self.line.restore();
        self.portals.iter().for_each(|portal| portal.behave(Behaviour::Answers));
        self.villages.iter().for_each(|village| self.power.restore(village));
        say(start, "Đường truyền có trở lại", "the line is back");
        self.told(start, owner, seen + 1).await?;
        // A mail that came late would be as wrong as one that came at once.
        tokio::time::sleep(CUT).await;
        let wrongly = self.mails_to_leaders()? - leaders;
        let vi = format!("Thư gửi nhầm lãnh đạo đơn vị trong lúc đứt đường truyền: {wrongly}");
        say(start, &vi, &format!("mails that blamed an agency for it: {wrongly}"));
        Ok(())
    }

    fn mails_to_leaders(&self) -> anyhow::Result<usize> {
        let leaders = ["chutich@tamky.vn.example", "chutich@hoian.vn.example", "chutich@thangbinh.vn.example"];
        leaders.into_iter().map(|leader| self.mails_to(leader)).sum()
    }

    /// Waits for the mail after the first `seen` to `recipient` and shows its subject.
    async fn told(&self, start: Instant, recipient: &str, seen: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut received = self.mailbox.received();
        while self.mails_to(recipient)? <= seen {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                say(start, "Chưa thấy thư nào", "no mail came in time");
                return Ok(());
            }
            // Nothing or something: both are looked at above.
            let _ = tokio::time::timeout(left, received.changed()).await;
        }
        let mails = self.mailbox.mails()?;
        let mail = mails.iter().filter(|mail| is_to(mail, recipient)).nth(seen);
        let subject = mail.map(|mail| subject(mail)).unwrap_or_default();
        say(start, &format!("Thư gửi {recipient} sau {} giây", begin.elapsed().as_secs()), "a mail");
        eprintln!("          {subject}");
        Ok(())
    }

    fn mails_to(&self, recipient: &str) -> anyhow::Result<usize> {
        Ok(self.mailbox.mails()?.iter().filter(|mail| is_to(mail, recipient)).count())
    }
}

fn is_to(mail: &str, recipient: &str) -> bool {
    mail.lines()
        .take_while(|line| !line.is_empty())
        .any(|line| line.strip_prefix("Delivered-To: ").is_some_and(|to| to.trim() == recipient))
}

/// The subject, with encoded words (RFC 2047, base64 as lettre writes them) decoded.
fn subject(mail: &str) -> String {
    let unfolded = mail.replace("\r\n ", " ").replace("\n ", " ");
    let line = unfolded.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default();
    let mut text = String::new();
    for word in line.split(' ') {
        match word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?=")).and_then(base64) {
            Some(decoded) => text.push_str(&decoded),
            None => {
                text.push(' ');
                text.push_str(word);
                text.push(' ');
            }
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn base64(text: &str) -> Option<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u32;
    let mut n_bits = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6) | value as u32;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}

fn say(start: Instant, vi: &str, en: &str) {
    eprintln!("[{:>4} s] {vi} / {en}", start.elapsed().as_secs());
}
