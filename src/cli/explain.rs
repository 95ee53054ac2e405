//! `ioc-watch reconcile --explain REF`: what portal and gateway say of a transaction or dossier, and the life of its
//! mismatches, from the daemon's state database. Only reads; the daemon may be running.

use crate::config::site::{Language, State};
use crate::config::{self, Config};
use crate::format;
use crate::gather::payment::{self, Fact, Kind, Life, Record, Stage, TransactionInfo};
use crate::store::{Store, from_micros};
use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Prints to stdout; exit code 1 if nothing is known of `reference`.
pub fn run(file: &Path, reference: &str, language: Option<Language>, as_json: bool) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            return ExitCode::from(1);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(find(&config, reference)),
        Err(error) => Err(error.into()),
    };
    let language = language.unwrap_or(config.site.language);
    if let Ok((_, n_waiting @ 1..)) = found {
        eprintln!("{}", waiting(n_waiting, language));
    }
    match found.map(|(found, _)| found) {
        Ok(found) if found.is_empty() => {
            eprintln!("nothing is known of {reference:?}: neither a transaction nor a dossier");
            ExitCode::from(1)
        }
        Ok(found) => {
            let teller = Teller { language, zone: &config.site.timezone, now: Timestamp::now() };
            if as_json {
                println!("{}", json!({"transactions": found.iter().map(as_value).collect::<Vec<_>>()}));
            } else {
                print!("{}", teller.tell(&found));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Says that the answer may lack rows.
fn waiting(n_rows: i64, language: Language) -> String {
    let count = format::integer(n_rows, language);
    match language {
        Language::Vi => format!("còn {count} dòng đã nhận chưa vào sổ; lát nữa hãy hỏi lại"),
        Language::En => format!("{count} rows have arrived and are not yet in the ledger; ask again in a moment"),
    }
}

/// What is known of `reference`, and how many rows are not in the ledger yet.
async fn find(config: &Config, reference: &str) -> anyhow::Result<(Vec<TransactionInfo>, i64)> {
    if matches!(config.state, State::Sqlite) {
        let file = config.data_dir.join("state.db");
        // Opening would make an empty one.
        if !file.exists() {
            bail!("there is no state database {}; has the daemon run?", file.display());
        }
    }
    let store = Store::open(&config.state, &config.data_dir).await?;
    let found = payment::find(&store, reference).await.context("asking the ledger")?;
    let n_waiting = payment::n_waiting(&store).await.context("asking for rows that arrived")?;
    store.close().await;
    Ok((found, n_waiting))
}

struct Teller<'a> {
    language: Language,
    zone: &'a TimeZone,
    now: Timestamp,
}

impl Teller<'_> {
    fn pick<'t>(&self, vi: &'t str, en: &'t str) -> &'t str {
        if self.language == Language::Vi { vi } else { en }
    }

    fn tell(&self, found: &[TransactionInfo]) -> String {
        let mut text = String::new();
        for (index, transaction) in found.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            // Writing to a string cannot fail.
            let _ = self.transaction(&mut text, transaction);
        }
        text
    }

    fn transaction(&self, text: &mut String, transaction: &TransactionInfo) -> std::fmt::Result {
        let unknown = self.pick("(không rõ)", "(unknown)");
        let or_unknown = |word: &str| if word.is_empty() { unknown.to_string() } else { word.to_string() };
        writeln!(
            text,
            "{} {}  {} {}",
            self.pick("Giao dịch", "Transaction"),
            or_unknown(&transaction.txn_ref),
            self.pick("Hồ sơ", "Dossier"),
            or_unknown(&transaction.dossier)
        )?;
        writeln!(text, "  {}  {}", self.pick("Cổng dịch vụ công:", "Portal: "), self.record(&transaction.portal))?;
        writeln!(text, "  {}  {}", self.pick("Bên thanh toán:   ", "Gateway:"), self.record(&transaction.gateway))?;
        if transaction.lives.is_empty() {
            writeln!(text, "  {}", self.pick("Chưa từng có chênh lệch", "There was never a mismatch"))?;
        }
        for life in &transaction.lives {
            self.life(text, life)?;
        }
        let is_open = transaction.lives.iter().any(|life| life.closed.is_none());
        if let Some(due) = transaction.due.filter(|_| !is_open) {
            let wait = self.pick("Đang chờ; xét đến hạn lúc", "Waiting; judged at");
            writeln!(text, "  {wait} {}", self.date(due.max(self.now)))?;
        }
        Ok(())
    }

    fn record(&self, record: &Option<Record>) -> String {
        let Some(record) = record else { return self.pick("không có gì", "nothing").to_string() };
        let fact = Fact { status: record.status, amount: record.amount, at_us: record.at_us };
        let mut text = self.fact(fact);
        for (vi, en, word) in [
            ("đơn vị", "agency", record.agency.as_str()),
            ("hồ sơ", "dossier", &record.dossier),
            ("thủ tục", "procedure", &record.procedure),
            ("kênh", "channel", record.channel.as_str()),
            ("hoàn cho", "gives back", payment::reference_of(&record.refund_of)),
        ] {
            if !word.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, ", {} {word}", self.pick(vi, en));
            }
        }
        text
    }

    fn fact(&self, fact: Fact) -> String {
        let amount = format::dong(fact.amount, self.language);
        format!("{} {amount} {}", fact.status, self.date(from_micros(fact.at_us)))
    }

    fn life(&self, text: &mut String, life: &Life) -> std::fmt::Result {
        for (index, stage) in life.stages.iter().enumerate() {
            let what = match index {
                0 => self.pick("mở:", "opened:"),
                _ => self.pick("đổi thành:", "changed to:"),
            };
            let (kind, amount) = (stage.kind.title(self.language), format::dong(stage.amount, self.language));
            writeln!(text, "  {}  {what} {kind}, {amount} ({})", self.date(stage.at), stage.agency)?;
            writeln!(text, "      {} {}", self.pick("vì", "because"), self.why(stage))?;
        }
        if let Some(closed) = life.closed {
            let by = match life.closed_by.as_str() {
                "matched" => self.pick("hai bên đã khớp", "both sides agree"),
                "money_back" => self.pick("tiền đã được hoàn", "the money is back"),
                "withdrawn" => self.pick("bên báo có tiền đã rút lại", "what was said of money was withdrawn"),
                other => other,
            };
            writeln!(text, "  {}  {} {by}", self.date(closed), self.pick("đóng:", "closed:"))?;
            if life.closed_facts != (None, None) {
                writeln!(text, "      {}", self.said(life.closed_facts))?;
            }
        }
        Ok(())
    }

    /// The rule that was broken, and what the sides said.
    fn why(&self, stage: &Stage) -> String {
        let rule = match stage.kind {
            Kind::PaidTwice => self.pick(
                "hồ sơ đã có một khoản cùng số tiền và phí đã đủ",
                "the same amount had been paid for the dossier, and what was due is covered",
            ),
            Kind::AmountDiffers => self.pick("hai bên ghi số tiền khác nhau", "the sides have different amounts"),
            Kind::StatusConflict => self.pick(
                "cổng ghi đã thu nhưng bên thanh toán đã từ chối hoặc hoàn tiền",
                "the portal counts on money that the gateway refused or gave back",
            ),
            Kind::RefundMissing => self.pick(
                "cổng ghi đã hoàn nhưng bên thanh toán vẫn giữ tiền",
                "the portal gave back what the gateway still holds",
            ),
            Kind::FeeNotReduced => self.pick(
                "nộp trực tuyến nhưng phí không được giảm",
                "it was filed online, and more than the reduced fee was paid",
            ),
            Kind::OrphanPayment => self.pick("không có hồ sơ mang mã này", "no dossier bears this code"),
            Kind::PaidNotRecorded => self.pick(
                "bên thanh toán đã nhận tiền, cổng chưa ghi nhận sau thời gian chờ",
                "the gateway has the money; the portal did not record it within the grace",
            ),
            Kind::RecordedNotPaid => self.pick(
                "cổng ghi đã thu, bên thanh toán không có sau hạn đối soát",
                "the portal says paid; the gateway had nothing when its file was due",
            ),
        };
        if stage.facts == (None, None) { rule.to_string() } else { format!("{rule}; {}", self.said(stage.facts)) }
    }

    fn said(&self, (portal, gateway): (Option<Fact>, Option<Fact>)) -> String {
        let side =
            |fact: Option<Fact>| fact.map_or(self.pick("không có gì", "nothing").to_string(), |f| self.fact(f));
        let (of_portal, of_gateway) = (self.pick("cổng:", "portal:"), self.pick("bên thanh toán:", "gateway:"));
        format!("{of_portal} {}; {of_gateway} {}", side(portal), side(gateway))
    }

    fn date(&self, time: Timestamp) -> String {
        format::date_time(time, self.zone)
    }
}

fn as_value(transaction: &TransactionInfo) -> Value {
    let record = |record: &Option<Record>| {
        record.as_ref().map(|record| {
            json!({
                "status": record.status.as_str(), "amount": record.amount, "time": from_micros(record.at_us).to_string(),
                "agency": record.agency, "dossier": record.dossier, "procedure": record.procedure,
                "channel": record.channel.as_str(), "refundOf": payment::reference_of(&record.refund_of),
            })
        })
    };
    let fact = |fact: Option<Fact>| {
        fact.map(|fact| {
            json!({"status": fact.status.as_str(), "amount": fact.amount, "time": from_micros(fact.at_us).to_string()})
        })
    };
    let lives: Vec<Value> = transaction
        .lives
        .iter()
        .map(|life| {
            let stages = life.stages.iter().map(|stage| {
                json!({
                    "at": stage.at.to_string(), "kind": stage.kind.as_str(), "agency": stage.agency,
                    "amount": stage.amount, "portal": fact(stage.facts.0), "gateway": fact(stage.facts.1),
                })
            });
            let stages: Vec<Value> = stages.collect();
            json!({"stages": stages, "closedAt": life.closed.map(|closed| closed.to_string()), "closedBy": life.closed_by})
        })
        .collect();
    json!({
        "txnRef": transaction.txn_ref, "dossier": transaction.dossier, "portal": record(&transaction.portal),
        "gateway": record(&transaction.gateway), "due": transaction.due.map(|due| due.to_string()), "mismatches": lives,
    })
}
