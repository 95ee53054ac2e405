//! Connections to the SMTP server: one while that is enough, more while many mails wait for a server that takes its time
//! over each.
//!
//! A kill repeats at most what is in flight, one mail a connection; so there are no more of them than bring what waits
//! through within [`WITHIN`], and never more than [`MOST`].

use super::outbox::Waiting;
use super::smtp::{DeliveryError, Link, SmtpError};
use crate::config::email::Email;
use futures_util::stream::{FuturesUnordered, Stream};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Connections at once. Servers commonly allow one client more (Postfix: 50); what one allows less is learnt.
const MOST: usize = 40;
/// A server that takes less over a mail is quick: more connections would only bring more that a kill may repeat.
const QUICK: Duration = Duration::from_millis(20);
/// What waits ought to go within this time.
const WITHIN: Duration = Duration::from_secs(2);

pub struct Lanes {
    email: Email,
    /// At least one.
    links: Vec<Link>,
    width: Width,
}

/// How many mails are handed over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    now: usize,
    /// The server refused more.
    most: usize,
}

/// What became of one mail of a round.
pub struct Handed {
    pub position: usize,
    /// `None`: it was still under way a while after the stop.
    pub outcome: Option<Result<(), DeliveryError>>,
    /// What the server took over it.
    pub took: Duration,
}

/// How one round of deliveries went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    pub taken: usize,
    /// The server could not be reached, or took nothing now.
    pub held_up: usize,
    pub slowest: Duration,
}

impl Lanes {
    /// Reads the CA file; connects only when there is a mail.
    pub fn new(email: &Email) -> Result<Lanes, SmtpError> {
        Ok(Lanes { email: email.clone(), links: vec![Link::new(email)?], width: Width::ONE })
    }

    /// How many mails the next round takes.
    pub fn width(&self) -> usize {
        self.width.now
    }

    /// Hands mails (at most [`Lanes::width`] of them) over at the same time; yields what became of each as it is known. None
    /// is handed over whole before `ready` says true, which the time they took does not count.
    pub fn deliver<'a>(
        &'a mut self,
        mails: &'a [Waiting],
        ready: &'a watch::Receiver<bool>,
        stop: &'a CancellationToken,
        finish: Duration,
    ) -> Result<impl Stream<Item = Handed> + use<'a>, SmtpError> {
        while self.links.len() < mails.len() {
            self.links.push(Link::new(&self.email)?);
        }
        let lanes = self.links.iter_mut().zip(mails).enumerate();
        let under_way = lanes.map(|(position, (link, waiting))| async move {
            let given_up = async {
                stop.cancelled().await;
                tokio::time::sleep(finish).await;
            };
            let (begun, mut waited) = (Instant::now(), Duration::ZERO);
            let is_ready = async {
                let since = Instant::now();
                if ready.clone().wait_for(|is_ready| *is_ready).await.is_err() {
                    // Whoever would have said so is gone: never.
                    std::future::pending::<()>().await;
                }
                waited = since.elapsed();
            };
            let outcome = tokio::select! {
                outcome = link.deliver(&waiting.mail, is_ready) => Some(outcome),
                () = given_up => None,
            };
            Handed { position, outcome, took: begun.elapsed().saturating_sub(waited) }
        });
        Ok(under_way.collect::<FuturesUnordered<_>>())
    }

    /// Learns from a round how wide the next one is while so many mails wait, and closes connections that it does not need.
    pub async fn learn(&mut self, round: Round, waiting: usize) {
        self.width = self.width.after(round, waiting);
        for mut link in self.links.drain(self.width.now.min(self.links.len())..) {
            link.close().await;
        }
    }

    /// Says goodbye on all of them.
    pub async fn close(&mut self) {
        for link in &mut self.links {
            link.close().await;
        }
    }
}

impl Width {
    const ONE: Width = Width { now: 1, most: MOST };

    fn after(self, round: Round, waiting: usize) -> Width {
        let Width { now, most } = self;
        if round.held_up > 0 {
            // Some got through: so many connections it allows. None: it is away, which says nothing of that.
            return if round.taken > 0 { Width { now: round.taken, most: round.taken } } else { Width::ONE };
        }
        let one_by_one = round.slowest.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        let wanted = one_by_one.as_millis().div_ceil(WITHIN.as_millis());
        let wanted = if round.slowest < QUICK { 1 } else { usize::try_from(wanted).unwrap_or(most) };
        // Twice as many at a time: a server that can bear no more shows it before all of them are there.
        Width { now: wanted.clamp(1, most.min(now * 2)), most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_mails_for_a_slow_server_go_side_by_side_and_all_others_one_by_one() {
        let took = |ms, taken| Round { taken, held_up: 0, slowest: Duration::from_millis(ms) };
        let play = |rounds: &[(Round, usize)]| {
            let widths = rounds.iter().scan(Width::ONE, |width, (round, waiting)| {
                *width = width.after(*round, *waiting);
                Some(width.now)
            });
            widths.collect::<Vec<usize>>()
        };
        let slow = |taken| took(1_000, taken);
        assert_eq!(play(&[(took(5, 1), 5_000), (took(19, 1), 5_000)]), [1, 1], "quick");
        assert_eq!(play(&[(slow(1), 1), (slow(1), 2)]), [1, 1], "few");
        assert_eq!(play(&[(slow(1), 8), (slow(2), 6), (slow(3), 3)]), [2, 3, 2], "as many as clear it in two seconds");
        let many = |taken| (slow(taken), 1_000);
        assert_eq!(play(&[1, 2, 4, 8, 16, 32, 40].map(many)), [2, 4, 8, 16, 32, 40, 40]);
        assert_eq!(play(&[many(1), many(2), (took(5, 4), 900)]), [2, 4, 1], "it became quick");
        let held_up = |taken, held_up| (Round { taken, held_up, slowest: Duration::from_secs(1) }, 1_000);
        assert_eq!(play(&[many(1), many(2), held_up(3, 1), many(3)]), [2, 4, 3, 3], "it allows three");
        assert_eq!(play(&[many(1), many(2), held_up(0, 4), many(1)]), [2, 4, 1, 2], "it was away");
        assert_eq!(play(&[many(1), (Round::default(), 1_000)]), [2, 1], "nothing but refusals, which cost no time");
    }
}
