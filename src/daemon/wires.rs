//! The small pieces between rooms that do not know each other: dossiers and devices in incident mails, reports into the
//! outbox.

use crate::alert::Alert;
use crate::config::organisation::Area;
use crate::config::site::Language;
use crate::config::{Config, email::Email};
use crate::evaluation::{Deliver, ReportMail};
use crate::format;
use crate::gather::device::Fleet;
use crate::gather::payment::{self, Kind};
use crate::history::History;
use crate::incident::{self, Curve};
use crate::mail::{Draft, Letter, Outbox, message};
use crate::org::Org;
use crate::store::{Store, StoreError, Tx};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;

/// What mails say beside the alerts: the dossiers behind payment alerts, the devices behind those about a village or
/// site, the course of values.
pub struct Known {
    pub history: Arc<History>,
    pub store: Store,
    pub fleet: Arc<Fleet>,
    pub zone: TimeZone,
}

/// Dossiers that a mail names; all of them, up to [`ATTACHED`], are attached.
const NAMED: usize = 20;
/// Rows of the attached list: some 400 KB. The page `/payments` has them all.
const ATTACHED: u32 = 5_000;

impl incident::Evidence for Known {
    fn of<'a>(&'a self, alerts: &'a [Alert], language: Language, now: Timestamp) -> BoxFuture<'a, incident::Exhibits> {
        Box::pin(async move {
            let (mut lines, mut rows) = (Vec::new(), Vec::new());
            for alert in alerts {
                let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == alert.label("kind"));
                let (Some(kind), true) = (kind, alert.label("area") == Area::Payment.as_str()) else { continue };
                match payment::evidence(&self.store, alert.label("agency"), kind, ATTACHED).await {
                    Ok(evidence) => {
                        lines.extend(self.words(&evidence, language, now));
                        rows.extend(evidence.first.iter().map(|mismatch| self.row(mismatch, language, now)));
                    }
                    // The mail must go even when the dossiers cannot be read.
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no dossiers for a mail"),
                }
            }
            if rows.is_empty() {
                // An incident is about one area.
                return super::affected::exhibits(&self.fleet, alerts, language, &self.zone);
            }
            let (name, head) = match language {
                Language::Vi => (
                    "ho-so-chenh-lech",
                    ["Mã hồ sơ", "Mã giao dịch", "Chênh lệch", "Số tiền (đồng)", "Từ lúc", "Đã kéo dài", "Đơn vị"],
                ),
                Language::En => {
                    ("mismatches", ["Dossier", "Transaction", "Mismatch", "Amount (dong)", "Since", "For", "Agency"])
                }
            };
            rows.insert(0, head.map(str::to_string).to_vec());
            incident::Exhibits { lines, table: Some((name.to_string(), rows)) }
        })
    }

    fn curve<'a>(&'a self, alert: &'a Alert, now: Timestamp) -> BoxFuture<'a, Option<Curve>> {
        // In place: it is one series at 144 moments, and a thousand incidents at once would wait for as many hops to
        // another thread. Should it panic, the mail goes without a picture; the panic is in the log.
        let look = std::panic::AssertUnwindSafe(|| super::curves::curve(&self.history, alert, now));
        Box::pin(std::future::ready(std::panic::catch_unwind(look).unwrap_or_default()))
    }
}

impl Known {
    fn words(&self, evidence: &payment::Evidence, language: Language, now: Timestamp) -> Vec<String> {
        let shown = evidence.first.iter().take(NAMED);
        let mut lines: Vec<String> = shown
            .map(|mismatch| {
                let dossier = match (mismatch.dossier.as_str(), language) {
                    ("", Language::Vi) => format!("Giao dịch {}", mismatch.txn_ref),
                    ("", Language::En) => format!("Transaction {}", mismatch.txn_ref),
                    (dossier, Language::Vi) => format!("Hồ sơ {dossier}"),
                    (dossier, Language::En) => format!("Dossier {dossier}"),
                };
                let amount = format::dong(mismatch.amount, language);
                let (since, age) = (format::date_time(mismatch.since, &self.zone), age(mismatch, language, now));
                format!("{dossier}: {amount}, {since} ({age})")
            })
            .collect();
        let rest = evidence.total - lines.len() as i64;
        if rest > 0 {
            let count = format::integer(rest, language);
            lines.push(match language {
                Language::Vi => format!("và {count} hồ sơ nữa trong tệp đính kèm"),
                Language::En => format!("and {count} more in the attached file"),
            });
        }
        lines
    }

    fn row(&self, mismatch: &payment::MismatchInfo, language: Language, now: Timestamp) -> Vec<String> {
        vec![
            mismatch.dossier.clone(),
            mismatch.txn_ref.clone(),
            mismatch.kind.title(language).to_string(),
            mismatch.amount.to_string(),
            format::date_time(mismatch.since, &self.zone),
            age(mismatch, language, now),
            mismatch.agency.clone(),
        ]
    }
}

fn age(mismatch: &payment::MismatchInfo, language: Language, now: Timestamp) -> String {
    format::duration(Duration::try_from(now.duration_since(mismatch.since)).unwrap_or_default(), language)
}

/// Puts the weekly reports into the outbox.
pub struct Reports {
    pub org: Arc<Org>,
    pub outbox: Outbox,
    pub email: Option<Email>,
}

impl Reports {
    pub fn new(config: &Config, org: Arc<Org>, outbox: Outbox) -> Reports {
        Reports { org, outbox, email: config.email.clone() }
    }
}

impl Deliver for Reports {
    fn deliver<'a>(&'a self, tx: &'a mut Tx, mail: ReportMail) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let (Some(email), Some(person)) = (&self.email, self.org.person(&mail.person)) else { return Ok(()) };
            let now = Timestamp::now();
            let draft = Draft {
                letter: &Letter { subject: mail.subject, text: mail.text, html: mail.html },
                from: &email.from,
                name: &person.name,
                address: &person.email,
                message_id: &message::message_id(&mail.key, &email.from),
                in_reply_to: None,
                list: "evaluation",
                date: now,
            };
            match message::outgoing(&draft, mail.key.clone(), &mail.person) {
                Ok(outgoing) => {
                    self.outbox.enqueue(tx, &[outgoing], now).await?;
                    self.outbox.wake();
                    Ok(())
                }
                Err(error) => {
                    // The report itself is kept; only this person's copy cannot be written.
                    tracing::error!(error = &error as &dyn std::error::Error, "a report cannot be mailed");
                    Ok(())
                }
            }
        })
    }
}
