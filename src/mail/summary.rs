//! One mail in the place of many: a person's digest, or what goes beyond a person's limit. What is held and until when
//! stands in `held.rs`; here it is put into words, and the task that sends it when it is due.

use super::held::Why;
use super::message::{self, Outgoing, Parts, shorten};
use super::outbox::Outbox;
use super::templates::{SummaryRow, SummaryView, Templates};
use super::{Draft, Letter};
use crate::config::Config;
use crate::config::site::{Language, Site};
use crate::format;
use crate::store::StoreError;
use jiff::Timestamp;
use lettre::message::Mailbox;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Threads that a summary lists.
const THREADS: usize = 50;
/// Characters of a line.
const LINE: usize = 120;
/// The longest sleep of [`run`]: a clock that jumps is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What is held for one person.
#[derive(Debug)]
pub struct Summary {
    pub why: Why,
    /// In the outbox; its Message-ID is made of it.
    pub number: i64,
    pub person: String,
    pub name: String,
    pub recipient: String,
    pub language: Language,
    /// In the order written.
    pub told: Vec<Told>,
}

/// A mail that a summary stands for.
#[derive(Debug)]
pub struct Told {
    pub thread: String,
    pub subject: String,
    pub url: String,
    pub is_urgent: bool,
    pub at: Timestamp,
}

/// What all summaries have in common.
pub struct Desk {
    from: Mailbox,
    site: Site,
    templates: Templates,
}

/// Sends summaries when they are due, until `shutdown`.
pub async fn run(outbox: Outbox, desk: Option<Desk>, shutdown: CancellationToken) -> Result<(), StoreError> {
    let Some(desk) = desk else {
        shutdown.cancelled().await;
        return Ok(());
    };
    while !shutdown.is_cancelled() {
        let now = Timestamp::now();
        outbox.release(&desk, now).await?;
        let next = outbox.next_summary().await?;
        let wait =
            next.map_or(LONGEST_SLEEP, |next| Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO));
        tokio::select! {
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(100), LONGEST_SLEEP)) => {}
            () = outbox.held() => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}

impl Desk {
    /// `None`: no mail is configured.
    pub fn new(config: &Config) -> Option<Desk> {
        let from = config.email.as_ref()?.from.clone();
        Some(Desk { from, site: config.site.clone(), templates: Templates::of(config) })
    }

    /// The mail that tells all of it. The error is for the log.
    pub(super) fn mail(&self, summary: &Summary, now: Timestamp) -> Result<Outgoing, String> {
        let view = self.view(summary);
        let (text, html) = self.templates.summary(&view, summary.language).map_err(|error| error.to_string())?;
        let letter = Letter { subject: subject(summary, &view), text, html };
        let address = summary.recipient.parse().map_err(|_| "the address cannot be read".to_owned())?;
        let draft = Draft {
            letter: &letter,
            from: &self.from,
            name: &summary.name,
            address: &address,
            message_id: &message::message_id(&format!("summary-{}.{}", summary.number, summary.person), &self.from),
            in_reply_to: None,
            list: "incidents",
            date: now,
        };
        let parts = Parts { is_urgent: summary.told.iter().any(|told| told.is_urgent), ..Parts::default() };
        let thread = format!("summary.{}", summary.person);
        message::outgoing_with(&draft, thread, &summary.person, parts).map_err(|error| error.to_string())
    }

    fn view(&self, summary: &Summary) -> SummaryView {
        let language = summary.language;
        // Each thread by its last mail, urgent ones first, then in the order begun.
        let mut threads: Vec<(&Told, usize)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for told in &summary.told {
            let place = *places.entry(told.thread.as_str()).or_insert(threads.len());
            match threads.get_mut(place) {
                Some((last, count)) => (*last, *count) = (told, *count + 1),
                None => threads.push((told, 1)),
            }
        }
        threads.sort_by_key(|(last, _)| !last.is_urgent);
        let rows = threads.iter().take(THREADS).map(|(last, count)| SummaryRow {
            what: shorten(&last.subject, LINE),
            at: format::date_time(last.at, &self.site.timezone),
            count: if *count > 1 { mails(*count, language) } else { String::new() },
            url: last.url.clone(),
        });
        let left_out = threads.len().saturating_sub(THREADS);
        SummaryView {
            is_digest: summary.why == Why::Digest,
            headline: headline(summary.why, summary.told.len(), threads.len(), language),
            rows: rows.collect(),
            more: match (left_out, language) {
                (0, _) => String::new(),
                (_, Language::Vi) => format!("và {} sự cố nữa", count(left_out, language)),
                (_, Language::En) => format!("and {} more", count(left_out, language)),
            },
            url: format!("{}/incidents", self.site.external_url),
            site: self.site.name.clone(),
        }
    }
}

fn subject(summary: &Summary, view: &SummaryView) -> String {
    let is_urgent = summary.told.iter().any(|told| told.is_urgent);
    let mark = match (is_urgent, summary.language) {
        (false, _) => "",
        (true, Language::Vi) => "[Nghiêm trọng] ",
        (true, Language::En) => "[Critical] ",
    };
    format!("{mark}{}", view.headline)
}

fn headline(why: Why, n_mails: usize, n_threads: usize, language: Language) -> String {
    let (mails, threads) = (mails(n_mails, language), incidents(n_threads, language));
    match (why, language) {
        (Why::Digest, Language::Vi) => format!("Bản tin: {mails} về {threads}"),
        (Why::Digest, Language::En) => format!("Digest: {mails} about {threads}"),
        (Why::Limit, Language::Vi) => format!("Gộp {mails} về {threads}"),
        (Why::Limit, Language::En) => format!("{mails} in one about {threads}"),
    }
}

fn count(count: usize, language: Language) -> String {
    format::integer(i64::try_from(count).unwrap_or(i64::MAX), language)
}

fn mails(n: usize, language: Language) -> String {
    match (language, n) {
        (Language::Vi, _) => format!("{} thư", count(n, language)),
        (Language::En, 1) => "1 mail".into(),
        (Language::En, _) => format!("{} mails", count(n, language)),
    }
}

fn incidents(n: usize, language: Language) -> String {
    match (language, n) {
        (Language::Vi, _) => format!("{} sự cố", count(n, language)),
        (Language::En, 1) => "1 incident".into(),
        (Language::En, _) => format!("{} incidents", count(n, language)),
    }
}
