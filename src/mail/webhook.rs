//! Incidents told to programs: one `POST` of JSON each, from the same durable outbox as mails.
//!
//! Signed as <https://www.standardwebhooks.com> has it: `webhook-id` (the same when a message is repeated, so that its
//! receiver can tell), `webhook-timestamp` (seconds; of this try) and `webhook-signature`, `v1,` and the base64 of
//! HMAC-SHA256 over `ID.TIMESTAMP.BODY`. A secret that begins with `whsec_` is the base64 of the key, any other is the
//! key.
//!
//! Each webhook has a task of its own, so that one that is away holds no other up. One message after the other, each
//! noted as taken before the next begins; messages of one incident keep their order. An answer of 2xx is a yes. 400, 410,
//! 413 and 422 are a no for ever. Everything else, redirects too (which are never followed), is tried again.

use super::outbox::{Channel, Outbox, Waiting};
use super::post::{Poster, Trouble};
use super::send::{backoff, later};
use crate::config::webhooks::Webhook;
use crate::store::StoreError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use jiff::Timestamp;
use ring::hmac;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages read at once.
const BATCH: i64 = 20;
/// The longest time between two tries of a receiver that is away.
const PROBE: Duration = Duration::from_secs(60);
/// The longest sleep: a clock that jumps is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
/// What a message that belongs to no webhook of the configuration says.
const GONE: &str = "the webhook is not in the configuration any more";

/// A message on its way into the outbox.
#[derive(Debug, Clone)]
pub struct Call {
    /// The webhook's id.
    pub webhook: String,
    /// Messages of one thread go in order.
    pub thread: String,
    /// Unique; a repeated delivery carries the same.
    pub id: String,
    /// JSON.
    pub body: String,
    pub about: super::About,
}

/// Sends to every webhook until `shutdown`. Messages to webhooks that are no longer configured are given up.
pub async fn run(outbox: Outbox, webhooks: Arc<[Webhook]>, shutdown: CancellationToken) -> Result<(), StoreError> {
    let ids: Vec<&str> = webhooks.iter().map(|webhook| webhook.id.as_str()).collect();
    outbox.give_up_others(&ids, Timestamp::now(), GONE).await?;
    let senders = webhooks.iter().map(|webhook| {
        let (outbox, shutdown) = (outbox.clone(), shutdown.clone());
        async move { Sender::new(outbox, webhook.clone(), Timestamp::now).run(shutdown).await }
    });
    let ended: Result<(), StoreError> = join_all(senders).await.into_iter().collect();
    ended?;
    // Without webhooks there is nothing to do, and nothing wrong either.
    shutdown.cancelled().await;
    Ok(())
}

/// Hands the messages of one webhook over.
pub struct Sender {
    outbox: Outbox,
    webhook: Webhook,
    key: hmac::Key,
    poster: Poster,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Tries since the receiver went away; 0 while it takes messages.
    away: u32,
    /// Of the last pass.
    last: Option<Timestamp>,
}

impl Sender {
    /// `clock` says what time it is for the rules of retrying, and for signatures.
    pub fn new(outbox: Outbox, webhook: Webhook, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Sender {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key(webhook.secret.expose()));
        let poster = Poster::new(webhook.url.clone(), webhook.ca_file.clone(), webhook.timeout);
        Sender { outbox, webhook, key, poster, clock: Arc::new(clock), away: 0, last: None }
    }

    async fn run(&mut self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let outbox = self.outbox.clone();
        while !shutdown.is_cancelled() {
            // From before the outbox is read: what is written meanwhile is not overlooked.
            let called = outbox.called();
            let pause = tokio::select! {
                // Cut off, a message is repeated with its id after the start: its receiver knows it.
                () = shutdown.cancelled() => return Ok(()),
                pause = self.pass() => pause?,
            };
            if pause.is_zero() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = called, if self.away == 0 => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Reads the outbox once and hands over what is due; says how long to wait before the next time.
    pub async fn pass(&mut self) -> Result<Duration, StoreError> {
        let channel = Channel::Webhook(self.webhook.id.as_str());
        let now = (self.clock)();
        match self.last {
            // As with mails: a clock that was ahead, or is set back, must not put off what waits by as much.
            None => self.outbox.retry_after_on(channel, later(now, self.webhook.retry.max), now).await?,
            Some(last) if now < last => self.outbox.retry_after_on(channel, now, now).await?,
            Some(_) => {}
        }
        self.last = Some(now);
        let due = self.outbox.due_on(channel, now, BATCH, &[]).await?;
        if due.is_empty() {
            let next = self.outbox.next_due_on(channel).await?;
            let wait = next
                .map_or(LONGEST_SLEEP, |next| Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO));
            return Ok(wait.clamp(Duration::from_millis(10), LONGEST_SLEEP));
        }
        for waiting in &due {
            self.outbox.ensure_lead().await?;
            let outcome = self.deliver(waiting).await;
            if let Some(pause) = self.note(waiting, outcome).await? {
                return Ok(pause);
            }
        }
        Ok(Duration::ZERO)
    }

    async fn deliver(&mut self, waiting: &Waiting) -> Result<(), Trouble> {
        let timestamp = (self.clock)().as_second();
        let (id, body) = (&waiting.mail.message_id, &waiting.mail.message);
        let signature = hmac::sign(&self.key, format!("{id}.{timestamp}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(signature.as_ref()));
        let headers = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ];
        self.poster.post(&headers, body).await
    }

    /// Writes down what came of a message; says how long to leave the receiver alone, if it is away.
    async fn note(&mut self, waiting: &Waiting, outcome: Result<(), Trouble>) -> Result<Option<Duration>, StoreError> {
        let now = (self.clock)();
        let error = match outcome {
            Ok(()) => {
                self.outbox.sent(&[waiting.id], now).await?;
                self.count("sent");
                if std::mem::take(&mut self.away) > 0 {
                    tracing::info!(webhook = self.webhook.id.as_str(), "the webhook takes messages again");
                    self.outbox.retry_after_on(Channel::Webhook(self.webhook.id.as_str()), now, now).await?;
                }
                return Ok(None);
            }
            Err(Trouble::Never(error)) => {
                self.give_up(waiting, now, &error).await?;
                return Ok(None);
            }
            Err(Trouble::Later(error)) => error,
        };
        self.count("retried");
        if now.duration_since(waiting.created).unsigned_abs() >= self.webhook.retry.give_up {
            self.give_up(waiting, now, &error).await?;
            return Ok(None);
        }
        if self.away == 0 {
            tracing::warn!(webhook = self.webhook.id.as_str(), error, "a webhook takes no messages; they are kept");
        }
        let alone = backoff(&self.webhook.retry, i64::from(self.away)).min(PROBE);
        self.away = self.away.saturating_add(1);
        let next = later(now, alone);
        self.outbox.retry(waiting.id, next, &error).await?;
        Ok(Some(alone))
    }

    async fn give_up(&self, waiting: &Waiting, now: Timestamp, error: &str) -> Result<(), StoreError> {
        self.outbox.give_up(waiting.id, now, error).await?;
        self.count("failed");
        tracing::error!(
            webhook = self.webhook.id.as_str(),
            message.id = waiting.mail.message_id,
            error,
            "a message to a webhook was given up; it is kept in the outbox"
        );
        Ok(())
    }

    fn count(&self, result: &str) {
        let own = &self.outbox.metrics().own;
        own.webhooks.with_label_values(&[self.webhook.id.as_str(), result]).inc();
    }
}

/// The key of a secret.
fn key(secret: &str) -> Vec<u8> {
    let decoded = secret.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
