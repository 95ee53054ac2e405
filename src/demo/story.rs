//! The demo's story, scene by scene: something breaks, its leader is mailed, it is mended, the leader is told. Each
//! scene waits for what really happened; nothing is announced that was not seen.

use super::devices::Power;
use super::mail::Mailbox;
use super::payments::{Files, Payment};
use super::portal::{Behaviour, Portal};
use jiff::{SignedDuration, Timestamp};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Before the portal hangs.
const CALM: Duration = Duration::from_secs(20);
/// How long a mail may take before the scene says so and goes on.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the story moves.
pub struct Stage {
    /// In the order of `PORTALS`.
    pub portals: Vec<Portal>,
    pub power: Power,
    /// The village that goes dark.
    pub village: String,
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
    stage.unrecorded_payment(start).await?;
    stage.dark_village(start).await?;
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
