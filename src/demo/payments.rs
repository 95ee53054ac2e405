//! The portal's and the gateway's payment files, as the story writes them: complete rows under a new name, moved into
//! place in one step.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::path::{Path, PathBuf};

/// Writes the files of both sides.
pub struct Files {
    portal: PathBuf,
    gateway: PathBuf,
    zone: TimeZone,
    n_written: u32,
}

/// One payment as one side tells it.
pub struct Payment<'a> {
    pub txn_ref: &'a str,
    pub dossier: &'a str,
    pub agency: &'a str,
    pub amount: i64,
    /// The side's own word.
    pub status: &'a str,
    pub time: Timestamp,
}

impl Files {
    pub fn new(dir: &Path, zone: TimeZone) -> anyhow::Result<Files> {
        let (portal, gateway) = (dir.join("portal"), dir.join("gateway"));
        std::fs::create_dir_all(&portal)?;
        std::fs::create_dir_all(&gateway)?;
        Ok(Files { portal, gateway, zone, n_written: 0 })
    }

    pub fn portal(&mut self, payments: &[Payment<'_>]) -> anyhow::Result<()> {
        let mut text = String::from("Mã giao dịch,Mã hồ sơ,Đơn vị,Số tiền,Trạng thái,Thời gian\n");
        for payment in payments {
            let Payment { txn_ref, dossier, agency, amount, status, time } = payment;
            let time = self.local(*time);
            text.push_str(&format!("{txn_ref},{dossier},{agency},{amount},{status},{time}\n"));
        }
        let dir = self.portal.clone();
        self.write(&dir, &text)
    }

    pub fn gateway(&mut self, payments: &[Payment<'_>]) -> anyhow::Result<()> {
        let mut text = String::from("Mã GD,Mã hồ sơ,Số tiền,Kết quả,Thời gian GD\n");
        for payment in payments {
            let Payment { txn_ref, dossier, amount, status, time, .. } = payment;
            let time = self.local(*time);
            text.push_str(&format!("{txn_ref},{dossier},{amount},{status},{time}\n"));
        }
        let dir = self.gateway.clone();
        self.write(&dir, &text)
    }

    /// A day's ordinary payments, on which both sides agree.
    pub fn ordinary(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let refs: Vec<(String, String)> =
            (1..=24).map(|n| (format!("GD2611{n:04}"), format!("H49.{:03}-261120-{n:04}", n % 3 + 1))).collect();
        let payment = |status: &'static str| {
            refs.iter().enumerate().map(move |(n, (txn_ref, dossier))| Payment {
                txn_ref,
                dossier,
                agency: ["tam-ky", "hoi-an", "thang-binh"][n % 3],
                amount: 50_000 + 5_000 * (n as i64 % 7),
                status,
                time: now - SignedDuration::from_mins(30 + n as i64),
            })
        };
        self.portal(&payment("Đã thanh toán").collect::<Vec<_>>())?;
        self.gateway(&payment("Thành công").collect::<Vec<_>>())
    }

    fn local(&self, time: Timestamp) -> String {
        time.to_zoned_datetime(self.zone.clone()).strftime("%d/%m/%Y %H:%M:%S").to_string()
    }

    fn write(&mut self, dir: &Path, text: &str) -> anyhow::Result<()> {
        self.n_written += 1;
        let name = format!("doi-soat-{:03}.csv", self.n_written);
        let hidden = dir.join(format!(".{name}.part"));
        std::fs::write(&hidden, text)?;
        std::fs::rename(&hidden, dir.join(name))?;
        Ok(())
    }
}
