//! Who leads. With SQLite this daemon does, always. On PostgreSQL the daemons on one database share a lease (see
//! [`crate::store::lease`]): one leads, the others stand by.
//!
//! Only the database ends a term: a leader that cannot reach it stays one, but can neither write nor mail, since every
//! transaction and every mail asks whether the term lasts. Once it can again it goes on, unless another took over.

use super::supervisor::AbortOnDrop;
use crate::metrics::Metrics;
use crate::store::lease::{LASTS, Lease, RENEW, Standing};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often a daemon that stands by asks for the lease.
pub const LOOK: Duration = Duration::from_secs(1);
/// How long the database may take over the lease.
const ANSWER: Duration = Duration::from_secs(4);

/// When a daemon that stands by may take the lead.
#[derive(Default)]
pub struct Candidate {
    /// The lease and since when it stands as it does, by our own clock.
    seen: Option<(Standing, Instant)>,
    /// After the database was away: whoever led before gets the time to go on.
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    None,
    /// The lease is over by the database's clock.
    Over,
    /// It is not, but was not renewed for longer than it can last: that clock was set back.
    Stale,
}

impl Candidate {
    pub fn see(&mut self, standing: &Standing, now: Instant) -> Chance {
        let since = match &self.seen {
            Some((seen, since)) if seen == standing => *since,
            _ => now,
        };
        self.seen = Some((standing.clone(), since));
        if self.not_before.is_some_and(|at| now < at) {
            Chance::None
        } else if standing.is_expired {
            Chance::Over
        } else if now.duration_since(since) > LASTS + RENEW {
            Chance::Stale
        } else {
            Chance::None
        }
    }

    /// The database did not answer.
    pub fn lost(&mut self, now: Instant) {
        self.seen = None;
        self.not_before = Some(now + RENEW * 2);
    }
}

/// One look at the lease, and the lead if it is free.
pub enum Look {
    /// The new term.
    Leads(i64),
    /// By name.
    Other(String),
    Failed(StoreError),
}

/// Asks for the lead once.
pub async fn look(lease: &Lease, candidate: &mut Candidate) -> Look {
    let asked = async {
        let standing = lease.look().await?;
        let taken = match candidate.see(&standing, Instant::now()) {
            Chance::None => None,
            chance => lease.take(&standing, chance == Chance::Stale).await?,
        };
        Ok((standing, taken))
    };
    let answered = tokio::time::timeout(ANSWER, asked).await;
    match answered.unwrap_or_else(|_| Err(StoreError::Sql("asking who leads", sqlx::Error::PoolTimedOut))) {
        Ok((_, Some(epoch))) => Look::Leads(epoch),
        Ok((standing, None)) => Look::Other(standing.name),
        Err(error) => {
            candidate.lost(Instant::now());
            Look::Failed(error)
        }
    }
}

/// The lead while it lasts.
pub struct Tenure {
    /// `None` with SQLite.
    epoch: Option<i64>,
    over: CancellationToken,
    _renewing: Option<AbortOnDrop<()>>,
}

impl Tenure {
    /// Of the only daemon.
    pub fn alone(metrics: &Metrics) -> Tenure {
        metrics.own.leader.set(1);
        Tenure { epoch: None, over: CancellationToken::new(), _renewing: None }
    }

    /// Renews the term until it is dropped or another daemon leads.
    pub fn begin(lease: Arc<Lease>, epoch: i64, metrics: Arc<Metrics>) -> Tenure {
        metrics.own.leader.set(1);
        let over = CancellationToken::new();
        let renewing = tokio::spawn(renew(lease, epoch, metrics, over.clone()));
        Tenure { epoch: Some(epoch), over, _renewing: Some(AbortOnDrop(renewing)) }
    }

    pub fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// The handle through which the leader writes.
    pub fn store(&self, store: &Store) -> Store {
        self.epoch.map_or_else(|| store.clone(), |epoch| store.fenced(epoch))
    }

    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Returns when another daemon leads.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

async fn renew(lease: Arc<Lease>, epoch: i64, metrics: Arc<Metrics>, over: CancellationToken) {
    let mut renewed = Instant::now();
    let mut told = false;
    loop {
        tokio::time::sleep(RENEW).await;
        let begin = Instant::now();
        let answer = tokio::time::timeout(ANSWER, lease.renew(epoch)).await;
        match answer.unwrap_or_else(|_| Err(StoreError::Sql("renewing the lead", sqlx::Error::PoolTimedOut))) {
            Ok(true) => {
                if told {
                    tracing::info!("the lead is renewed again");
                }
                (renewed, told) = (begin, false);
                metrics.own.leader.set(1);
                if let Ok(Ok(others)) = tokio::time::timeout(ANSWER, lease.others()).await {
                    metrics.own.standbys.set(others.standing_by);
                    metrics.own.daemons_missing.set(others.missing);
                }
            }
            Ok(false) => {
                metrics.own.leader.set(0);
                over.cancel();
                return;
            }
            Err(error) => {
                if !told {
                    told = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the lead cannot be renewed; nothing is written or mailed meanwhile");
                }
                if renewed.elapsed() > LASTS {
                    metrics.own.leader.set(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_is_taken_when_it_is_over_and_not_before() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let held = |expires_us| Standing { expires_us, ..Standing::default() };
        let over = |expires_us| Standing { expires_us, is_expired: true, ..Standing::default() };
        let rows: [(&str, &[(u64, Option<Standing>)], Chance); 6] = [
            ("free at once", &[(0, Some(over(0)))], Chance::Over),
            ("held", &[(0, Some(held(9)))], Chance::None),
            ("renewed again and again", &[(0, Some(held(9))), (8, Some(held(17))), (16, Some(held(25)))], Chance::None),
            (
                "not renewed, and the database's clock was set back",
                &[(0, Some(held(9))), (12, Some(held(9)))],
                Chance::Stale,
            ),
            (
                "the database comes back: the leader first",
                &[(0, Some(held(9))), (5, None), (8, Some(over(9)))],
                Chance::None,
            ),
            (
                "and does not come",
                &[(0, Some(held(9))), (5, None), (8, Some(over(9))), (9, Some(over(9)))],
                Chance::Over,
            ),
        ];
        for (name, looks, expected) in rows {
            let mut candidate = Candidate::default();
            let mut chance = Chance::None;
            for (seconds, standing) in looks {
                match standing {
                    Some(standing) => chance = candidate.see(standing, at(*seconds)),
                    None => candidate.lost(at(*seconds)),
                }
            }
            assert_eq!(chance, expected, "{name}");
        }
    }
}
