//! Connections to the SMTP server: one mail at a time is handed over while the server is quick, more once it takes its time.
//! One connection more gives it the next mail meanwhile, but for the end of it.
//!
//! A kill repeats at most what the server has whole and is not yet noted. So it is one mail, until that has held up the
//! others for [`PATIENCE`], or one after the other takes so long that all would take too long.

use super::outbox::Waiting;
use super::smtp::{DeliveryError, Link, SmtpError};
use crate::config::email::Email;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Connections at once. What a server allows less is learnt.
const MOST: usize = 500;
/// Connections that servers commonly allow one client (Postfix: 50); so many are opened at once, others only if it bears
/// those.
const COMMON: usize = 50;
/// When one mail has held up the others for so long, more of them are given to the server but for their ends: they lose no
/// time once it is known to be slow.
const DOUBT: Duration = Duration::from_millis(100);
/// So long one mail may hold up all others, be the server ever so slow.
const PATIENCE: Duration = Duration::from_millis(250);
/// So long several mails may hold up the others.
const PATIENCE_WITH_MANY: Duration = Duration::from_millis(50);
/// How often it is looked whether a mail holds up others.
const LOOK: Duration = Duration::from_millis(50);
/// A server that takes less over a mail is quick: more at a time would only be more that a kill may repeat.
const QUICK: Duration = Duration::from_millis(50);
/// What waits ought to go within this time.
const WITHIN: Duration = Duration::from_secs(2);
/// So many mails one after the other, all quick or none, show what a server is like.
const SHOWN: i8 = 3;
/// A server that seemed to allow no more connections is asked for more after this time: it may have been restarted just
/// then.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

pub struct Lanes {
    email: Email,
    idle: Vec<Link>,
    width: Width,
    /// How many mails may be given to the server but for their ends, beside those that it may have whole. 0: it did not take
    /// the last, so it is not worth while.
    ahead: usize,
    /// How long the others had been held up when it was last looked.
    looked: Duration,
    /// Mails under way over a connection that stands.
    connected: Arc<AtomicUsize>,
    /// When it last seemed to allow no more connections.
    refused: Option<Instant>,
}

/// How many mails are handed over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    now: usize,
    /// Connections, the one that announces included: the server refused more.
    most: usize,
    /// Mails one after the other that took long; below 0: that did not.
    run: i8,
}

/// A mail on its way.
pub struct Lane {
    /// Sent: the server may have it whole. Dropped: it never gets it.
    pub open: oneshot::Sender<()>,
    pub under_way: BoxFuture<'static, Handed>,
}

/// What became of a mail.
pub struct Handed {
    pub mail: Arc<Waiting>,
    /// `None`: the server did not get it whole, or it was still under way a while after the stop.
    pub outcome: Option<Result<(), DeliveryError>>,
    /// What the server took over it.
    pub took: Duration,
    link: Link,
}

/// Counts a mail that has a connection, while it lives.
struct Connected(Arc<AtomicUsize>);

impl Connected {
    fn new(count: Arc<AtomicUsize>) -> Connected {
        count.fetch_add(1, Ordering::Relaxed);
        Connected(count)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// Reads the CA file; connects only when there is a mail.
    pub fn new(email: &Email) -> Result<Lanes, SmtpError> {
        Ok(Lanes {
            email: email.clone(),
            idle: vec![Link::new(email)?],
            width: Width::ONE,
            ahead: 0,
            looked: Duration::ZERO,
            connected: Arc::default(),
            refused: None,
        })
    }

    /// How many mails the server may have whole at a time.
    pub fn width(&self) -> usize {
        self.width.now
    }

    /// How many mails may be under way: those, and the ones ahead of them.
    pub fn connections(&self) -> usize {
        (self.width.now + self.ahead).min(self.width.most)
    }

    /// When to look next at what the server leaves unanswered, counted from when the others began to wait.
    pub fn next_look(&self) -> Duration {
        self.looked + LOOK
    }

    /// The server has had so many mails `whole` for that long. Says whether the others begin to wait anew. A server that is
    /// not there at all gets no more connections.
    pub fn look(&mut self, whole: usize, held_up: Duration) -> bool {
        self.looked = held_up;
        let connected = self.connected.load(Ordering::Relaxed);
        if connected < whole {
            return false;
        }
        let patience = if self.width.now == 1 { PATIENCE } else { PATIENCE_WITH_MANY };
        if held_up >= patience {
            self.width = self.width.wider();
            self.answered();
            return true;
        }
        // Not before it has borne those.
        if held_up >= DOUBT && connected > self.ahead {
            self.ahead = more(self.ahead).min(self.width.most);
        }
        false
    }

    /// The others need not wait any longer, or begin to wait anew.
    pub fn answered(&mut self) {
        self.looked = Duration::ZERO;
    }

    /// Announces a mail to the server once it is polled. What is under way longer than `finish` after `stop` is left.
    pub fn announce(
        &mut self,
        mail: Arc<Waiting>,
        stop: &CancellationToken,
        finish: Duration,
    ) -> Result<Lane, SmtpError> {
        let mut link = match self.idle.pop() {
            Some(link) => link,
            None => Link::new(&self.email)?,
        };
        let (open, opened) = oneshot::channel();
        let (stop, count) = (stop.clone(), self.connected.clone());
        let under_way = async move {
            let (begun, mut waited) = (Instant::now(), Duration::ZERO);
            let may_have_it = async {
                let since = Instant::now();
                let is_opened = opened.await.is_ok();
                waited = since.elapsed();
                is_opened
            };
            let given_up = async {
                stop.cancelled().await;
                tokio::time::sleep(finish).await;
            };
            let delivery = async {
                link.connect().await?;
                let _connected = Connected::new(count);
                link.deliver(&mail.mail, may_have_it).await
            };
            let outcome = tokio::select! {
                taken = delivery => match taken {
                    Ok(true) => Some(Ok(())),
                    Ok(false) => None,
                    Err(error) => Some(Err(error)),
                },
                () = given_up => None,
            };
            Handed { mail, outcome, took: begun.elapsed().saturating_sub(waited), link }
        };
        Ok(Lane { open, under_way: Box::pin(under_way) })
    }

    /// Learns how many mails may go at a time from what became of one. So many `waiting` are known of, and so many
    /// `others` are under way.
    pub fn learn(&mut self, handed: &Handed, waiting: usize, others: usize) {
        self.ahead = match &handed.outcome {
            Some(Ok(())) => 1,
            Some(Err(DeliveryError::Unreachable(_) | DeliveryError::Temporary(_))) => 0,
            Some(Err(_)) | None => self.ahead,
        };
        let most = self.width.most;
        self.width = match &handed.outcome {
            Some(Err(DeliveryError::Unreachable(_))) => self.width.held_up(others),
            Some(Err(DeliveryError::Temporary(_))) if self.width.now > 1 => self.width.held_up(others),
            // Few servers are slow in saying no.
            Some(Err(_)) | None => self.width,
            Some(Ok(())) => self.width.after(handed.took, waiting),
        };
        if self.width.most < most {
            self.refused = Some(Instant::now());
        } else if self.refused.is_some_and(|at| at.elapsed() >= FORGOTTEN_AFTER) {
            (self.width.most, self.refused) = (MOST, None);
        }
    }

    /// Keeps the connection of a mail for others.
    pub fn give_back(&mut self, handed: Handed) {
        self.idle.push(handed.link);
    }

    /// Nothing waits: connections are closed, and the next mails find the server as if it were new; but what it allows is
    /// remembered.
    pub fn rest(&mut self) {
        self.width = Width { now: 1, run: 0, ..self.width };
        self.ahead = self.ahead.min(1);
        self.answered();
        let kept = self.connections().min(self.idle.len());
        self.idle.drain(kept..).for_each(close);
    }

    /// Says goodbye on all of them.
    pub async fn close(&mut self) {
        futures_util::future::join_all(self.idle.iter_mut().map(Link::close)).await;
    }
}

/// How many connections come after so many.
fn more(connections: usize) -> usize {
    if connections < COMMON { COMMON } else { connections * 4 }
}

/// Says goodbye without being waited for.
fn close(mut link: Link) {
    tokio::spawn(async move { link.close().await });
}

impl Width {
    const ONE: Width = Width { now: 1, most: MOST, run: 0 };

    /// The server took a mail, and so long over it.
    fn after(self, took: Duration, waiting: usize) -> Width {
        let Width { now, most, run } = self;
        let run = if took < QUICK { run.min(0) - 1 } else { run.max(0) + 1 };
        let one_by_one = took.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        let now = if run <= -SHOWN {
            1
        } else if run >= SHOWN && now < COMMON && one_by_one > WITHIN {
            // Twice as many at a time: a server that can bear no more shows it before all of them are there.
            now * 2
        } else {
            now
        };
        Width { now: now.min(most), most, run: run.clamp(-SHOWN, SHOWN) }
    }

    /// It answers nothing.
    fn wider(self) -> Width {
        Width { now: more(self.now).min(self.most), ..self }
    }

    /// The server let one down. With others under way: so many connections it allows. Alone: it is away, which says
    /// nothing of that.
    fn held_up(self, others: usize) -> Width {
        match others {
            0 => Width::ONE,
            others => Width { now: self.now.min(others), most: self.most.min(others), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_takes_too_long_one_by_one_goes_side_by_side_until_the_server_is_quick() {
        let play = |taken: &[(u64, usize)]| {
            let widths = taken.iter().scan(Width::ONE, |width, (took, waiting)| {
                *width = width.after(ms(*took), *waiting);
                Some(width.now)
            });
            widths.collect::<Vec<usize>>()
        };
        assert_eq!(play(&[(5, 5_000); 4]), [1, 1, 1, 1], "quick");
        assert_eq!(play(&[(100, 10); 4]), [1, 1, 1, 1], "few");
        assert_eq!(play(&[(100, 90), (100, 90), (5, 90), (100, 90), (100, 90)]), [1; 5], "now and then");
        assert_eq!(play(&[(100, 90); 10]), [1, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
        let quicker = [(100, 90), (100, 90), (100, 90), (100, 90), (5, 90), (5, 90), (5, 90)];
        assert_eq!(play(&quicker), [1, 1, 2, 4, 4, 4, 1], "it became quick");
    }

    #[test]
    fn a_server_that_answers_nothing_gets_what_is_common_and_then_more() {
        let widths = std::iter::successors(Some(Width::ONE), |width| Some(width.wider()));
        assert_eq!(widths.take(5).map(|width| width.now).collect::<Vec<_>>(), [1, 50, 200, 500, 500]);
        assert_eq!(Width { most: 3, ..Width::ONE }.wider().now, 3, "if it allows them");
    }

    #[test]
    fn a_server_says_by_refusing_how_many_connections_it_allows() {
        let four = Width { now: 4, ..Width::ONE };
        assert_eq!(four.held_up(3), Width { now: 3, most: 3, run: 0 }, "it allows three");
        assert_eq!(four.held_up(3).wider().now, 3);
        assert_eq!(four.held_up(3).held_up(5).most, 3, "it allows no more later on");
        assert_eq!(four.held_up(0), Width::ONE, "it was away");
        assert_eq!(Width::ONE.held_up(1).most, 1, "only one: the next is announced after it");
    }
}
