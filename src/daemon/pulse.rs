//! The sign of life that this daemon gives to others, while all of it works: rules are evaluated, the database takes
//! writes, mails go. Whoever stops hearing it knows that something is wrong here, be it that nothing runs at all.

use crate::config::heartbeat::{Out, Way};
use crate::config::probes::http::HttpProbe;
use crate::config::site::{Evaluate, Language};
use crate::config::{Config, Id};
use crate::format;
use crate::gather::service::{HttpCheck, Trust};
use crate::incident::Incidents;
use crate::mail::{Draft, Letter, Outbox, message};
use crate::metrics::Metrics;
use crate::org::Org;
use crate::store::{Doing, Store, StoreError};
use futures_util::future::join_all;
use jiff::Timestamp;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The database took a write within so long, or it is said to take none.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// Some rule group was evaluated and its outcome kept within so long, beside its interval.
const RULED_WITHIN: Duration = Duration::from_secs(60);
/// The oldest waiting mail may be the oldest for so long.
const MAILED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How often it is seen whether a daily mail is due.
const DAILY: Duration = Duration::from_secs(5);

/// When the daemon's parts last did their work, by the clock that only runs forward. Cheap to clone.
#[derive(Clone)]
pub struct Vitals(Arc<Mutex<Signs>>);

#[derive(Debug, Clone, Copy)]
struct Signs {
    written: Instant,
    ruled: Instant,
    /// The oldest mail that waits (its time, as the metric has it), and since when it is that.
    oldest: (f64, Instant),
}

/// What keeps the daemon from calling itself well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    Database,
    Rules,
    Mail,
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ailment::Database => "the state database takes no writes",
            Ailment::Rules => "no rules are evaluated",
            Ailment::Mail => "mails are stuck in the outbox",
        })
    }
}

impl Vitals {
    /// All is well as of the start.
    pub fn new(now: Instant) -> Vitals {
        Vitals(Arc::new(Mutex::new(Signs { written: now, ruled: now, oldest: (0.0, now) })))
    }

    /// A write was committed.
    pub fn written(&self, now: Instant) {
        self.lock().written = now;
    }

    /// A rule group was evaluated and its outcome was kept.
    pub fn ruled(&self, now: Instant) {
        self.lock().ruled = now;
    }

    /// The oldest waiting mail is of `oldest`, 0 if none waits.
    fn waits(&self, oldest: f64, now: Instant) {
        let mut signs = self.lock();
        if signs.oldest.0.to_bits() != oldest.to_bits() {
            signs.oldest = (oldest, now);
        }
    }

    /// What is wrong at `now`; `interval` is the longest of the rule groups, `None` if rules are evaluated elsewhere.
    fn ailments(&self, interval: Option<Duration>, now: Instant) -> Vec<Ailment> {
        let signs = *self.lock();
        let mut ailments = Vec::new();
        if now.duration_since(signs.written) > WRITTEN_WITHIN {
            ailments.push(Ailment::Database);
        }
        if interval.is_some_and(|interval| now.duration_since(signs.ruled) > interval + RULED_WITHIN) {
            ailments.push(Ailment::Rules);
        }
        if signs.oldest.0 > 0.0 && now.duration_since(signs.oldest.1) > MAILED_WITHIN {
            ailments.push(Ailment::Mail);
        }
        ailments
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Signs> {
        // Each field is assigned whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task works with.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub org: Arc<Org>,
    pub metrics: Arc<Metrics>,
    pub store: Store,
    pub outbox: Outbox,
    pub incidents: Arc<Incidents>,
    pub vitals: Vitals,
    /// The longest interval of the rule groups.
    pub interval: Duration,
}

impl Parts {
    fn ailments(&self) -> Vec<Ailment> {
        let now = Instant::now();
        self.vitals.waits(self.metrics.own.outbox_oldest.get(), now);
        let interval = (self.config.rules.evaluate == Evaluate::Embedded).then_some(self.interval);
        self.vitals.ailments(interval, now)
    }

    fn count(&self, out: &Out, result: &str) {
        self.metrics.own.heartbeats_sent.with_label_values(&[out.id.as_str(), result]).inc();
    }
}

/// Gives every sign of life until `shutdown`.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), StoreError> {
    for out in &parts.config.heartbeat.out {
        for result in ["ok", "failed", "withheld"] {
            parts.metrics.own.heartbeats_sent.with_label_values(&[out.id.as_str(), result]).inc_by(0);
        }
    }
    let (parts, shutdown) = (&parts, &shutdown);
    let ways = parts.config.heartbeat.out.iter().map(|out| async move {
        match &out.way {
            Way::Http { http, every, timeout } => call(parts, out, http, *every, *timeout, shutdown).await,
            Way::Mail { person, .. } => write_daily(parts, out, person, shutdown).await,
        }
    });
    join_all(ways).await;
    // Without any there is nothing to do but to be there.
    shutdown.cancelled().await;
    Ok(())
}

async fn call(
    parts: &Parts,
    out: &Out,
    http: &HttpProbe,
    every: Duration,
    timeout: Duration,
    shutdown: &CancellationToken,
) {
    let mut check: Option<HttpCheck> = None;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let ailments = parts.ailments();
        if let Some(first) = ailments.first() {
            parts.count(out, "withheld");
            if !std::mem::replace(&mut told, true) {
                tracing::error!(heartbeat = %out.id, "the sign of life {} is withheld: {first}", out.id);
            }
            continue;
        }
        let made = match check.take() {
            Some(check) => Ok(check),
            None => HttpCheck::compile(http, &Trust::default()).await,
        };
        let problem = match made {
            Ok(made) => {
                let outcome = made.run(timeout).await;
                let is_up = outcome.result.is_up();
                // After a failure it is made anew: its CA file may have been renewed.
                check = Some(made).filter(|_| is_up);
                (!is_up).then(|| outcome.result.as_str().to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        match problem {
            None => {
                parts.count(out, "ok");
                told = false;
            }
            Some(problem) => {
                parts.count(out, "failed");
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(heartbeat = %out.id, problem, "the sign of life {} did not get through", out.id);
                }
            }
        }
    }
}

async fn write_daily(parts: &Parts, out: &Out, person: &Id, shutdown: &CancellationToken) {
    let mut told = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(DAILY) => {}
        }
        match daily(parts, out, person, Timestamp::now()).await {
            Ok(Daily::Written) => parts.count(out, "ok"),
            Ok(Daily::Withheld(ailment)) => {
                if !std::mem::replace(&mut told, true) {
                    parts.count(out, "withheld");
                    tracing::error!(heartbeat = %out.id, "the daily sign of life {} is withheld: {ailment}", out.id);
                }
                continue;
            }
            Ok(Daily::NotDue) => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    parts.count(out, "failed");
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the daily sign of life cannot be written"
                    );
                }
                continue;
            }
        }
        told = false;
    }
}

enum Daily {
    NotDue,
    Withheld(Ailment),
    Written,
}

/// Writes the mail of the day if its time has come and it is not written yet. A clock that is set back brings no day
/// twice: the last day written is kept, and only a later one counts.
async fn daily(parts: &Parts, out: &Out, person: &Id, now: Timestamp) -> Result<Daily, StoreError> {
    const DOING: &str = "writing the daily sign of life";
    let config = &parts.config;
    let (Way::Mail { at, .. }, Some(email)) = (&out.way, &config.email) else { return Ok(Daily::NotDue) };
    let here = now.to_zoned_datetime(config.site.timezone.clone()).datetime();
    let today = here.date().to_string();
    if here.time() < *at {
        return Ok(Daily::NotDue);
    }
    let last: Option<String> = sqlx::query_scalar("SELECT day FROM heartbeat_mails WHERE id = $1")
        .bind(out.id.as_str())
        .fetch_optional(parts.store.reader())
        .await
        .doing(DOING)?;
    let Some(person) = parts.org.person(person).filter(|_| last.is_none_or(|last| last < today)) else {
        return Ok(Daily::NotDue);
    };
    if let Some(ailment) = parts.ailments().first() {
        return Ok(Daily::Withheld(*ailment));
    }
    let language = person.language.unwrap_or(config.site.language);
    let letter = letter(parts, language, &format::date_time(now, &config.site.timezone));
    let key = format!("heartbeat-{}-{today}", out.id);
    let draft = Draft {
        letter: &letter,
        from: &email.from,
        name: &person.name,
        address: &person.email,
        message_id: &message::message_id(&key, &email.from),
        in_reply_to: None,
        list: "heartbeat",
        date: now,
    };
    let mut tx = parts.store.begin().await?;
    match message::outgoing(&draft, key, person.id.as_str()) {
        Ok(outgoing) => parts.outbox.enqueue(&mut tx, &[outgoing], now).await?,
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the daily mail cannot be made"),
    }
    sqlx::query(
        "INSERT INTO heartbeat_mails (id, day) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET day = excluded.day",
    )
    .bind(out.id.as_str())
    .bind(&today)
    .execute(&mut *tx)
    .await
    .doing(DOING)?;
    tx.commit().await?;
    parts.outbox.wake();
    Ok(Daily::Written)
}

fn letter(parts: &Parts, language: Language, time: &str) -> Letter {
    let site = &parts.config.site.name;
    let open = parts.incidents.open().iter().filter(|incident| incident.resolved.is_none()).count();
    let open = format::integer(i64::try_from(open).unwrap_or(i64::MAX), language);
    let (subject, text) = match language {
        Language::Vi => (
            format!("{site}: hệ thống giám sát đang hoạt động"),
            format!(
                "Lúc {time}, hệ thống giám sát của {site} đang hoạt động bình thường: quy tắc được đánh giá, cơ sở dữ liệu \
                 ghi được, thư gửi được.\n\nSự cố đang mở: {open}.\n\nThư này được gửi mỗi ngày. Ngày nào không nhận được \
                 thư, hãy kiểm tra hệ thống giám sát.\n"
            ),
        ),
        Language::En => (
            format!("{site}: the monitoring works"),
            format!(
                "At {time} the monitoring of {site} works: rules are evaluated, the database takes writes, mails go.\n\n\
                 Open incidents: {open}.\n\nThis mail is written every day. On a day without it, look after the \
                 monitoring.\n"
            ),
        ),
    };
    let paragraphs = text.trim().split("\n\n").map(|text| format!("<p>{}</p>", escape(text))).collect::<String>();
    Letter { subject, text, html: format!("<!doctype html><html><body>{paragraphs}</body></html>") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_well_while_all_of_it_works() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let interval = Some(Duration::from_secs(15));
        let rows: [(&str, &dyn Fn(&Vitals), Option<Duration>, u64, &[Ailment]); 7] = [
            ("just started", &|_| {}, interval, 1, &[]),
            ("nothing is written", &|vitals| vitals.ruled(at(31)), interval, 31, &[Ailment::Database]),
            ("nothing is ruled", &|vitals| vitals.written(at(76)), interval, 76, &[Ailment::Rules]),
            ("rules are evaluated elsewhere", &|vitals| vitals.written(at(76)), None, 76, &[]),
            (
                "a mail waits",
                &|vitals| {
                    vitals.waits(5.0, at(1));
                    vitals.written(at(901));
                    vitals.ruled(at(901));
                },
                interval,
                901,
                &[],
            ),
            (
                "a mail is stuck",
                &|vitals| {
                    vitals.waits(5.0, at(1));
                    vitals.waits(5.0, at(800));
                    vitals.written(at(902));
                    vitals.ruled(at(902));
                },
                interval,
                902,
                &[Ailment::Mail],
            ),
            (
                "mails wait, but go",
                &|vitals| {
                    vitals.waits(5.0, at(1));
                    vitals.waits(6.0, at(800));
                    vitals.written(at(902));
                    vitals.ruled(at(902));
                },
                interval,
                902,
                &[],
            ),
        ];
        for (name, live, interval, seconds, expected) in rows {
            let vitals = Vitals::new(begin);
            live(&vitals);
            assert_eq!(vitals.ailments(interval, at(seconds)), expected, "{name}");
        }
    }
}
