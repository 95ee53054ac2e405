//! Connections to the SMTP server: one mail at a time is handed over while that is enough, more while many mails wait for
//! a server that takes its time over each. One connection more announces the next mail meanwhile: the server knows its
//! sender and recipient by the time it may have the rest.
//!
//! A kill repeats at most what the server has whole and is not yet noted, so there is no more of that at a time than
//! brings what waits through within [`WITHIN`], and never more than [`MOST`].

use super::outbox::Waiting;
use super::smtp::{DeliveryError, Link, SmtpError};
use crate::config::email::Email;
use futures_util::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Connections at once. Servers commonly allow one client more (Postfix: 50); what one allows less is learnt.
const MOST: usize = 40;
/// A server that takes less over a mail is quick: more at a time would only be more that a kill may repeat.
const QUICK: Duration = Duration::from_millis(200);
/// A server that seemed to allow no more connections is asked for more after this time: it may have been restarted just
/// then.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// What waits ought to go within this time.
const WITHIN: Duration = Duration::from_secs(2);

pub struct Lanes {
    email: Email,
    idle: Vec<Link>,
    width: Width,
    /// It took the last mail, so it is worth while to announce another beside the one that it takes in.
    takes_mails: bool,
    /// When it last seemed to allow no more connections.
    refused: Option<Instant>,
}

/// How many mails are handed over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    now: usize,
    /// Connections, the one that announces included: the server refused more.
    most: usize,
}

/// A mail on its way.
pub struct Lane<'m> {
    /// Sent: the server may have it whole. Dropped: it never gets it.
    pub open: oneshot::Sender<()>,
    pub under_way: BoxFuture<'m, Handed>,
}

/// What became of a mail.
pub struct Handed {
    /// As [`Lanes::announce`] was told.
    pub position: usize,
    /// `None`: the server did not get it whole, or it was still under way a while after the stop.
    pub outcome: Option<Result<(), DeliveryError>>,
    /// What the server took over it.
    pub took: Duration,
    link: Link,
}

impl Lanes {
    /// Reads the CA file; connects only when there is a mail.
    pub fn new(email: &Email) -> Result<Lanes, SmtpError> {
        Ok(Lanes {
            email: email.clone(),
            idle: vec![Link::new(email)?],
            width: Width::ONE,
            takes_mails: false,
            refused: None,
        })
    }

    /// How many mails the server may have whole at a time.
    pub fn width(&self) -> usize {
        self.width.now
    }

    /// How many mails may be under way: those, and one that is announced if the server takes mails at all.
    pub fn connections(&self) -> usize {
        (self.width.now + usize::from(self.takes_mails)).min(self.width.most)
    }

    /// Announces a mail to the server once it is polled. What is under way longer than `finish` after `stop` is left.
    pub fn announce<'m>(
        &mut self,
        position: usize,
        mail: &'m Waiting,
        stop: &CancellationToken,
        finish: Duration,
    ) -> Result<Lane<'m>, SmtpError> {
        let mut link = match self.idle.pop() {
            Some(link) => link,
            None => Link::new(&self.email)?,
        };
        let (open, opened) = oneshot::channel();
        let stop = stop.clone();
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
            let outcome = tokio::select! {
                taken = link.deliver(&mail.mail, may_have_it) => match taken {
                    Ok(true) => Some(Ok(())),
                    Ok(false) => None,
                    Err(error) => Some(Err(error)),
                },
                () = given_up => None,
            };
            Handed { position, outcome, took: begun.elapsed().saturating_sub(waited), link }
        };
        Ok(Lane { open, under_way: Box::pin(under_way) })
    }

    /// Learns how many mails may go at a time from what became of one. So many `waiting` are left, and so many `others` are
    /// under way.
    pub fn learn(&mut self, handed: &Handed, waiting: usize, others: usize) {
        self.takes_mails = match &handed.outcome {
            Some(Ok(())) => true,
            Some(Err(DeliveryError::Unreachable(_) | DeliveryError::Temporary(_))) => false,
            Some(Err(_)) | None => self.takes_mails,
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

    /// Keeps the connection of a mail for the next one, or closes it if it is not needed.
    pub async fn give_back(&mut self, handed: Handed) {
        let mut link = handed.link;
        if self.idle.len() < self.connections() { self.idle.push(link) } else { link.close().await }
    }

    /// Says goodbye on all of them.
    pub async fn close(&mut self) {
        for link in &mut self.idle {
            link.close().await;
        }
    }
}

impl Width {
    const ONE: Width = Width { now: 1, most: MOST };

    /// The server took a mail, and so long over it.
    fn after(self, took: Duration, waiting: usize) -> Width {
        let Width { now, most } = self;
        let one_by_one = took.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        let wanted = usize::try_from(one_by_one.as_millis().div_ceil(WITHIN.as_millis())).unwrap_or(most);
        // What is left is less with every mail, but takes no less time: none of them is given up for that.
        let wanted = if took < QUICK || waiting == 0 { 1 } else { wanted.max(now) };
        // Twice as many at a time: a server that can bear no more shows it before all of them are there.
        Width { now: wanted.clamp(1, most.min(now * 2)), most }
    }

    /// The server let one down. With others under way: so many connections it allows. Alone: it is away, which says
    /// nothing of that.
    fn held_up(self, others: usize) -> Width {
        if others == 0 { Width { now: 1, ..self } } else { Width { now: self.now.min(others), most: others } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_mails_for_a_slow_server_go_side_by_side_and_all_others_one_by_one() {
        let ms = Duration::from_millis;
        let play = |taken: &[(u64, usize)]| {
            let widths = taken.iter().scan(Width::ONE, |width, (took, waiting)| {
                *width = width.after(ms(*took), *waiting);
                Some(width.now)
            });
            widths.collect::<Vec<usize>>()
        };
        assert_eq!(play(&[(5, 5_000), (199, 5_000)]), [1, 1], "quick");
        assert_eq!(play(&[(1_000, 1), (1_000, 2)]), [1, 1], "few");
        let fewer = [(1_000, 8), (1_000, 6), (1_000, 2), (1_000, 0)];
        assert_eq!(play(&fewer), [2, 3, 3, 1], "as many as clear it in two seconds, until it is cleared");
        assert_eq!(play(&[(1_000, 1_000); 7]), [2, 4, 8, 16, 32, 40, 40]);
        assert_eq!(play(&[(1_000, 900), (1_000, 900), (5, 900)]), [2, 4, 1], "it became quick");
    }

    #[test]
    fn a_server_says_by_refusing_how_many_connections_it_allows() {
        let four = Width { now: 4, most: MOST };
        assert_eq!(four.held_up(3), Width { now: 3, most: 3 }, "it allows three");
        assert_eq!(four.held_up(3).after(Duration::from_secs(1), 1_000), Width { now: 3, most: 3 });
        assert_eq!(four.held_up(0), Width::ONE, "it was away");
        assert_eq!(Width::ONE.held_up(1), Width { now: 1, most: 1 }, "only one: the next is announced after it");
    }
}
