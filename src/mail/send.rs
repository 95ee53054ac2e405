//! The task that hands the outbox to the SMTP server.
//!
//! One mail after the other, each noted as sent before the server has the next one whole: a kill repeats at most the one
//! in flight. While the server takes a mail in, and while that is noted, a second connection gives it the next one but for
//! the end (see `gate.rs`). A server that takes its time over each of many mails gets several at once (see `lanes.rs`), of which a
//! kill repeats those in flight.
//!
//! Three kinds of failure. A recipient for whom the server takes nothing now (greylisting, a full mailbox): the mail
//! waits by itself, longer each time, and others go on. A server that cannot be reached, or takes nothing: everything
//! stops, and it is asked at least every [`PROBE`], so that all mails go soon after it is back. A refusal, or failures
//! for as long as the configuration allows: the mail is given up, which its writer learns (see `failure.rs`).
//!
//! Nothing is read ahead: what waits stays in the database, and at most [`BATCH`] mails are in memory. What was sent or
//! given up is kept there for 30 days.

use super::lanes::{Handed, Lanes};
use super::outbox::{Channel, Outbox, Waiting};
use super::smtp::{DeliveryError, SmtpError};
use crate::config::email::{Email, Retry};
use crate::store::StoreError;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The longest time between two tries of a server that is away.
const PROBE: Duration = Duration::from_secs(10);
/// Mails read at once.
const BATCH: i64 = 100;
/// How long a pass reads more mails, before the clock and what is old are looked at again.
const ROUND: Duration = Duration::from_secs(30);
/// So many mails not taken, and none between them taken, say that it is the server, not the mails.
const OUTAGE_AFTER: usize = 3;
/// How long a delivery under way may take after the stop.
const FINISH: Duration = Duration::from_secs(5);
/// How often old mails are removed, and metrics corrected, when there is nothing to do.
const HOUSEKEEPING: Duration = Duration::from_secs(3_600);

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("preparing the way to the mail server")]
    Smtp(#[from] SmtpError),
    #[error("keeping the outbox")]
    Store(#[from] StoreError),
}

/// Sends until `shutdown`; then the mail in flight is finished and noted.
pub async fn run(outbox: Outbox, email: Email, shutdown: CancellationToken) -> Result<(), SendError> {
    let mut sender = Sender::new(outbox, &email, Timestamp::now, shutdown.clone())?;
    while !shutdown.is_cancelled() {
        let pause = sender.pass().await?;
        sender.wait(pause).await;
    }
    sender.lanes.close().await;
    Ok(())
}

/// What to wait for before the next [`Sender::pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    None,
    /// The time, or a new mail.
    Quiet(Duration),
    /// The time: new mails do not bring the server back.
    Away(Duration),
}

/// Hands over what is due; [`run`] drives it.
pub struct Sender {
    lanes: Lanes,
    book: Book,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    shutdown: CancellationToken,
    pruned: Option<Timestamp>,
    /// Of the last pass.
    last: Option<Timestamp>,
}

/// What became of the mails, in the outbox, and what that says of the server.
struct Book {
    retry: Retry,
    outbox: Outbox,
    shutdown: CancellationToken,
    /// Mails (up to [`OUTAGE_AFTER`]) not taken since the last that was.
    failing: BTreeSet<i64>,
    /// Tries since the server went away; 0 while it takes mails.
    away: u32,
}

impl Sender {
    /// Reads the CA file; connects only when there is a mail. `clock` says what time it is for the rules of retrying.
    pub fn new(
        outbox: Outbox,
        email: &Email,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Result<Sender, SmtpError> {
        Ok(Sender {
            lanes: Lanes::new(email)?,
            book: Book {
                retry: email.retry.clone(),
                outbox,
                shutdown: shutdown.clone(),
                failing: BTreeSet::new(),
                away: 0,
            },
            clock: Arc::new(clock),
            shutdown,
            pruned: None,
            last: None,
        })
    }

    /// Hands over what is due, until nothing is.
    pub async fn pass(&mut self) -> Result<Pause, SendError> {
        let now = (self.clock)();
        if self.pruned.is_none_or(|at| now.duration_since(at).unsigned_abs() >= HOUSEKEEPING) {
            self.book.outbox.prune(now).await?;
            self.pruned = Some(now);
        }
        match self.last {
            // No mail is put off for longer than this: those that are were written under a clock that was ahead.
            None => self.book.outbox.retry_after_on(Channel::Mail, later(now, self.book.retry.max), now).await?,
            // The clock was set back, which must not put off what waits by as much.
            Some(last) if now < last => self.book.outbox.retry_all(now).await?,
            Some(_) => {}
        }
        self.last = Some(now);
        let mut round = Round::default();
        round.read(&self.book, now).await?;
        if round.waiting.is_empty() {
            self.lanes.rest();
            return Ok(self.book.idle(now).await?);
        }
        let pause = self.send(&mut round).await?;
        self.book.outbox.measure().await?;
        Ok(pause)
    }

    async fn wait(&self, pause: Pause) {
        let (duration, is_quiet) = match pause {
            Pause::None => return,
            Pause::Quiet(duration) => (duration, true),
            Pause::Away(duration) => (duration, false),
        };
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.book.outbox.written(), if is_quiet => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Hands mails over, of each thread at most one: as many at a time as the server is slow, and announces the next
    /// meanwhile.
    async fn send(&mut self, round: &mut Round) -> Result<Pause, SendError> {
        let mut pause = None;
        loop {
            if pause.is_some() || self.shutdown.is_cancelled() {
                round.waiting.clear();
                round.announced.clear();
            } else {
                self.begin(round).await?;
            }
            let is_held_up = !round.waiting.is_empty() || !round.announced.is_empty();
            let next_look = self.lanes.next_look().saturating_sub(round.waiting_since.elapsed());
            tokio::select! {
                // What was answered while this process stood still is no reason for impatience.
                biased;
                more = round.end() => if !more { break },
                () = self.book.outbox.written(), if !round.has_more => {
                    round.has_more = true;
                    continue;
                }
                () = tokio::time::sleep(next_look), if is_held_up && !round.whole.is_empty() => {
                    if self.lanes.look(round.whole.len(), round.waiting_since.elapsed()) {
                        round.waiting_since = Instant::now();
                    }
                    continue;
                }
            }
            let mut taken = Vec::new();
            for handed in std::mem::take(&mut round.ended) {
                round.announced.retain(|(id, _)| *id != handed.mail.id);
                if let Some(Ok(())) = handed.outcome {
                    taken.push(handed);
                    continue;
                }
                let others = round.under_way.len() + taken.len();
                self.lanes.learn(&handed, round.waiting.len(), others);
                if let Some(Err(error)) = &handed.outcome {
                    // One connection too many, or the server hung up on one of many: no fault of the mail's.
                    let again = others > 0 && matches!(error, DeliveryError::Unreachable(_));
                    if again && round.again.insert(handed.mail.id) {
                        round.waiting.push_front(handed.mail.clone());
                    } else {
                        let away = self.book.failed(&handed.mail, error, (self.clock)()).await?;
                        // What is taken beside it shows that the server takes mails.
                        let is_alone = taken.is_empty() && round.whole.iter().all(|id| *id == handed.mail.id);
                        pause = pause.or(away.filter(|_| is_alone));
                    }
                }
                round.whole.remove(&handed.mail.id);
                self.lanes.give_back(handed);
            }
            if !taken.is_empty() {
                self.book.taken(&taken, (self.clock)(), round).await?;
            }
            for handed in taken {
                round.whole.remove(&handed.mail.id);
                self.lanes.learn(&handed, round.waiting.len(), round.under_way.len());
                self.lanes.give_back(handed);
            }
        }
        Ok(pause.unwrap_or(Pause::None))
    }

    /// Announces what waits, and lets the server have what it may.
    async fn begin(&mut self, round: &mut Round) -> Result<(), SendError> {
        while round.under_way.len() < self.lanes.connections() {
            if round.waiting.is_empty() && round.has_more && round.begun.elapsed() < ROUND {
                round.read(&self.book, (self.clock)()).await?;
            }
            let Some(mail) = round.waiting.pop_front() else { break };
            let id = mail.id;
            let lane = self.lanes.announce(mail, &self.shutdown, FINISH)?;
            round.announced.push_back((id, lane.open));
            round.under_way.push(lane.under_way);
        }
        let may_go = self.lanes.width().saturating_sub(round.whole.len()).min(round.announced.len());
        if may_go > 0 {
            // Read a while ago: another daemon may lead by now and have sent them. In between lies one question only.
            self.book.outbox.ensure_lead().await?;
        }
        for (id, open) in round.announced.drain(..may_go) {
            if open.send(()).is_ok() {
                round.whole.insert(id);
                // Not before: noting what was sent may have taken long, which is not the server's fault.
                round.waiting_since = Instant::now();
                self.lanes.answered();
            }
        }
        Ok(())
    }
}

/// The mails of a pass.
struct Round {
    waiting: VecDeque<Arc<Waiting>>,
    /// More than was read may be due.
    has_more: bool,
    under_way: FuturesUnordered<BoxFuture<'static, Handed>>,
    /// Of those, what is not yet allowed to be handed over.
    announced: VecDeque<(i64, oneshot::Sender<()>)>,
    /// The server may have them whole, and they are not noted.
    whole: BTreeSet<i64>,
    ended: Vec<Handed>,
    /// Mails to which a connection was refused while there were others.
    again: BTreeSet<i64>,
    begun: Instant,
    /// Since when the server has had what it has, or got more connections because it did not answer.
    waiting_since: Instant,
}

impl Default for Round {
    fn default() -> Round {
        Round {
            waiting: VecDeque::new(),
            has_more: true,
            under_way: FuturesUnordered::new(),
            announced: VecDeque::new(),
            whole: BTreeSet::new(),
            ended: Vec::new(),
            again: BTreeSet::new(),
            begun: Instant::now(),
            waiting_since: Instant::now(),
        }
    }
}

impl Round {
    /// Reads what is due and not under way.
    async fn read(&mut self, book: &Book, now: Timestamp) -> Result<(), StoreError> {
        // A server that is away is asked by one mail: all that wait, read at every try, may be many megabytes.
        let limit = if book.away == 0 { BATCH } else { 1 };
        let under_way: Vec<i64> = self.whole.iter().copied().chain(self.announced.iter().map(|(id, _)| *id)).collect();
        let due = book.outbox.due_on(Channel::Mail, now, limit, &under_way).await?;
        self.has_more = i64::try_from(due.len()) == Ok(limit);
        if !due.is_empty() {
            book.outbox.measure().await?;
        }
        self.waiting.extend(due.into_iter().map(Arc::new));
        Ok(())
    }

    /// Waits until something became of a mail; false if none is under way.
    async fn end(&mut self) -> bool {
        if self.ended.is_empty() {
            let Some(handed) = self.under_way.next().await else { return false };
            self.ended.push(handed);
        }
        // What ended at the same time is noted in the same breath.
        while let Some(Some(handed)) = self.under_way.next().now_or_never() {
            self.ended.push(handed);
        }
        true
    }
}

impl Book {
    async fn idle(&self, now: Timestamp) -> Result<Pause, StoreError> {
        let next = self.outbox.next_due().await?;
        let wait = next.map_or(HOUSEKEEPING, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .clamp(Duration::from_millis(10), HOUSEKEEPING)
        });
        Ok(if self.away == 0 { Pause::Quiet(wait) } else { Pause::Away(wait.min(PROBE)) })
    }

    /// Gives a mail up or puts it off; says how long to leave the server alone, if it is the server's.
    async fn failed(
        &mut self,
        waiting: &Waiting,
        error: &DeliveryError,
        now: Timestamp,
    ) -> Result<Option<Pause>, StoreError> {
        if let DeliveryError::Refused(error) = error {
            self.give_up(waiting, now, error).await?;
            return Ok(None);
        }
        self.outbox.metrics().own.emails.with_label_values(&["retried"]).inc();
        if now.duration_since(waiting.created).unsigned_abs() >= self.retry.give_up {
            self.give_up(waiting, now, &error.to_string()).await?;
            return Ok(None);
        }
        if self.failing.len() < OUTAGE_AFTER {
            self.failing.insert(waiting.id);
        }
        self.put_off(waiting, now, error).await
    }

    /// Notes what the server has taken; the others go on meanwhile.
    async fn taken(&mut self, taken: &[Handed], now: Timestamp, round: &mut Round) -> Result<(), StoreError> {
        let ids: Vec<i64> = taken.iter().map(|handed| handed.mail.id).collect();
        {
            let mut noted = pin!(self.note(&ids, now));
            loop {
                tokio::select! {
                    noted = &mut noted => break noted?,
                    Some(other) = round.under_way.next() => round.ended.push(other),
                }
            }
        }
        let own = &self.outbox.metrics().own;
        own.emails.with_label_values(&["sent"]).inc_by(ids.len() as u64);
        own.outbox_depth.sub(ids.len() as i64);
        // Whatever failed since the last success may go now: the server is back, or it was asked for the second time.
        let was_failing = self.failing.len() >= OUTAGE_AFTER;
        self.failing.clear();
        let was_away = std::mem::take(&mut self.away) > 0;
        if was_away {
            tracing::info!("the mail server takes mails again");
        }
        if was_away || was_failing {
            self.outbox.retry_all(now).await?;
        }
        Ok(())
    }

    async fn note(&self, ids: &[i64], now: Timestamp) -> Result<(), StoreError> {
        // Nothing more is sent until this stands in the database: otherwise a restart would send it again.
        while let Err(error) = self.outbox.sent(ids, now).await {
            if matches!(error, StoreError::Deposed) {
                // It was the one in flight; who leads now sends it again.
                return Err(error);
            }
            tracing::error!(error = &error as &dyn std::error::Error, "a mail was sent and cannot be noted as sent");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.shutdown.cancelled() => return Err(error),
            }
        }
        Ok(())
    }

    async fn give_up(&mut self, waiting: &Waiting, now: Timestamp, error: &str) -> Result<(), StoreError> {
        self.outbox.give_up(waiting.id, now, error).await?;
        self.failing.remove(&waiting.id);
        let own = &self.outbox.metrics().own;
        own.emails.with_label_values(&["failed"]).inc();
        own.outbox_depth.dec();
        tracing::error!(
            mail.message_id = waiting.mail.message_id,
            person = waiting.mail.person,
            error,
            "a mail was given up; it is kept in the outbox"
        );
        Ok(())
    }

    /// Notes a failure; says how long to leave the server alone, if it is the server's.
    async fn put_off(
        &mut self,
        waiting: &Waiting,
        now: Timestamp,
        error: &DeliveryError,
    ) -> Result<Option<Pause>, StoreError> {
        let is_outage = self.failing.len() >= OUTAGE_AFTER;
        let is_server = match error {
            DeliveryError::Unreachable(_) => true,
            // Each recipient has to be tried once to be let through later.
            DeliveryError::Recipient(_) => false,
            DeliveryError::Temporary(_) | DeliveryError::Refused(_) => is_outage,
        };
        let alone = backoff(&self.retry, waiting.attempts);
        // Even when the server hung up this mail steps back: should it be the reason, the next probe is another one. Of
        // many recipients that are put off, the first one's mail shows when that is over.
        let is_probe = is_server || (is_outage && self.failing.first() == Some(&waiting.id));
        let alone = if is_probe { alone.min(PROBE) } else { alone };
        let next = later(now, alone);
        self.outbox.retry(waiting.id, next, &error.to_string()).await?;
        if !is_server {
            tracing::debug!(mail.message_id = waiting.mail.message_id, %error, "a mail has to wait");
            return Ok(None);
        }
        if self.away == 0 {
            tracing::warn!(%error, "the mail server takes no mails; they are kept and tried again");
        }
        self.away = self.away.saturating_add(1);
        Ok(Some(Pause::Away(backoff(&self.retry, i64::from(self.away) - 1).min(PROBE))))
    }
}

pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(SignedDuration::try_from(by).unwrap_or_default()).unwrap_or(time)
}

/// `first`, doubled with every try, at most `max`.
pub(super) fn backoff(retry: &Retry, attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 20)).unwrap_or(0);
    retry.first.saturating_mul(1 << doublings).min(retry.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let retry = Retry {
            first: Duration::from_secs(5),
            max: Duration::from_secs(600),
            give_up: Duration::from_secs(259_200),
        };
        let seconds = |attempts| backoff(&retry, attempts).as_secs();
        assert_eq!(
            [seconds(-1), seconds(0), seconds(1), seconds(6), seconds(7), seconds(1_000)],
            [5, 5, 10, 320, 600, 600]
        );
    }
}

#[cfg(all(test, feature = "demo"))]
#[path = "send_tests.rs"]
mod server_tests;
