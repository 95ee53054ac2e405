//! Connections to the SMTP server: one while it is quick, more while it takes its time over each mail.
//!
//! A kill repeats at most what is in flight, one mail a connection; so there are no more of them than a slow server
//! makes worth while, and never more than [`MOST`].

use super::outbox::Waiting;
use super::smtp::{DeliveryError, Link, SmtpError};
use crate::config::email::Email;
use futures_util::stream::{FuturesUnordered, Stream};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Connections at once. Servers commonly allow one client more (Postfix: 50).
const MOST: usize = 16;
/// A server that takes longer over a mail is slow: more at once are worth more than what a kill may repeat.
const SLOW: Duration = Duration::from_secs(1);

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

    /// Learns from a round how wide the next one is, and closes connections that it does not need.
    pub async fn learn(&mut self, round: Round) {
        self.width = self.width.after(round);
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

    fn after(self, round: Round) -> Width {
        let Width { now, most } = self;
        if round.held_up > 0 {
            // Some got through: so many connections it allows. None: it is away, which says nothing of that.
            return if round.taken > 0 { Width { now: round.taken, most: round.taken } } else { Width::ONE };
        }
        match (round.slowest >= SLOW, round.taken >= now) {
            (true, true) => Width { now: (now * 2).min(most), most },
            (true, false) => self,
            (false, _) if now > 1 => Width { now: now / 2, most },
            (false, _) => Width::ONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_gets_more_at_once_and_a_quick_one_only_one() {
        let slow = |taken| Round { taken, held_up: 0, slowest: Duration::from_secs(1) };
        let quick = |taken| Round { taken, held_up: 0, slowest: Duration::from_millis(5) };
        let held_up = |taken, held_up| Round { taken, held_up, slowest: Duration::from_secs(1) };
        let play = |rounds: &[Round]| {
            let widths = rounds.iter().scan(Width::ONE, |width, round| {
                *width = width.after(*round);
                Some(width.now)
            });
            widths.collect::<Vec<usize>>()
        };
        assert_eq!(play(&[quick(1), quick(1)]), [1, 1]);
        assert_eq!(play(&[slow(1), slow(2), slow(4), slow(8), slow(16)]), [2, 4, 8, 16, 16]);
        assert_eq!(play(&[slow(1), slow(2), quick(4), quick(2)]), [2, 4, 2, 1]);
        assert_eq!(play(&[slow(1), slow(1)]), [2, 2], "there was no more to send");
        assert_eq!(play(&[slow(1), slow(2), held_up(3, 1), slow(3)]), [2, 4, 3, 3], "it allows three");
        assert_eq!(play(&[slow(1), slow(2), held_up(0, 4), slow(1)]), [2, 4, 1, 2], "it was away");
        assert_eq!(play(&[slow(1), Round::default()]), [2, 1], "nothing but refusals, which cost no time");
    }
}
