//! Failed logins slow the next ones down: by account, and by the address they come from. A pure step function.
//!
//! An attempt counts as failed when it begins and is forgiven when it succeeds, so that a hundred at once are no way
//! around. What is remembered is bounded, and names that no user has stand apart: they cannot push out the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures of one key that cost nothing, and the longest wait after more.
struct Limit {
    free: u32,
    longest: Duration,
}

/// A person mistypes; and whoever attacks a known name must not lock its owner out for long.
const ACCOUNT: Limit = Limit { free: 5, longest: Duration::from_secs(60) };
/// Behind one address there may be an office.
const PEER: Limit = Limit { free: 20, longest: Duration::from_secs(300) };
/// Without a failure for so long all is forgotten.
const FORGET: Duration = Duration::from_secs(3_600);
/// Keys of one kind that are remembered.
const MAX_KEYS: usize = 10_000;

#[derive(Default)]
pub struct Throttle {
    accounts: Keys<String>,
    strangers: Keys<String>,
    peers: Keys<IpAddr>,
}

struct Keys<K>(HashMap<K, Failures>);

#[derive(Clone, Copy)]
struct Failures {
    n: u32,
    last: Instant,
    until: Instant,
}

/// Whose attempt it is.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// As typed; bounded by the caller.
    pub account: &'a str,
    /// Whether there is such a user.
    pub known: bool,
    pub peer: Option<IpAddr>,
}

impl Throttle {
    /// Lets an attempt begin, or says how long to wait. It counts as failed until [`Throttle::succeeded`].
    pub fn begin(&mut self, attempt: Attempt<'_>, now: Instant) -> Result<(), Duration> {
        let Attempt { account, known, peer } = attempt;
        let accounts = if known { &mut self.accounts } else { &mut self.strangers };
        let peer = peer.map(network);
        let wait = accounts.wait(account, now).max(peer.map_or(Duration::ZERO, |peer| self.peers.wait(&peer, now)));
        if !wait.is_zero() {
            return Err(wait);
        }
        accounts.failed(account.to_owned(), &ACCOUNT, now);
        if let Some(peer) = peer {
            self.peers.failed(peer, &PEER, now);
        }
        Ok(())
    }

    /// Forgives the account, and the address this one attempt: who has one password may still try others.
    pub fn succeeded(&mut self, attempt: Attempt<'_>, now: Instant) {
        let accounts = if attempt.known { &mut self.accounts } else { &mut self.strangers };
        accounts.0.remove(attempt.account);
        if let Some(failures) = attempt.peer.and_then(|peer| self.peers.0.get_mut(&network(peer))) {
            failures.n = failures.n.saturating_sub(1);
            failures.until = now;
        }
    }
}

impl<K> Default for Keys<K> {
    fn default() -> Keys<K> {
        Keys(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Keys<K> {
    fn wait<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> Duration
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).map_or(Duration::ZERO, |failures| failures.until.saturating_duration_since(now))
    }

    fn failed(&mut self, key: K, limit: &Limit, now: Instant) {
        if self.0.len() >= MAX_KEYS && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let failures = self.0.entry(key).or_insert(Failures { n: 0, last: now, until: now });
        if now.saturating_duration_since(failures.last) > FORGET {
            failures.n = 0;
        }
        failures.n = failures.n.saturating_add(1);
        failures.last = now;
        failures.until = now + delay(failures.n, limit);
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, failures| now.saturating_duration_since(failures.last) <= FORGET);
        if self.0.len() >= MAX_KEYS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
    }
}

/// 1 s, 2 s, 4 s … after the free ones.
fn delay(n: u32, limit: &Limit) -> Duration {
    match n.checked_sub(limit.free) {
        None | Some(0) => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << (over - 1).min(20)).min(limit.longest),
    }
}

/// One subscriber has one IPv4 address, or 2^64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt<'a>(account: &'a str, peer: &str) -> Attempt<'a> {
        Attempt { account, known: true, peer: peer.parse().ok() }
    }

    /// Attempts on one account for a minute, as fast as they are let.
    #[test]
    fn delays_grow_and_end_with_a_success_or_with_time() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..14 {
            while let Err(wait) = throttle.begin(attempt("truc", "192.0.2.1"), now) {
                waits.push(wait.as_secs());
                now += wait;
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(throttle.begin(attempt("khac", "192.0.2.2"), now).is_ok(), "nobody else waits");
        now += Duration::from_secs(60);
        throttle.begin(attempt("truc", "192.0.2.1"), now).unwrap();
        throttle.succeeded(attempt("truc", "192.0.2.1"), now);
        for _ in 0..5 {
            throttle.begin(attempt("truc", "192.0.2.3"), now).unwrap();
        }
        throttle.begin(attempt("truc", "192.0.2.3"), now).unwrap();
        assert!(throttle.begin(attempt("truc", "192.0.2.3"), now).is_err());
        now += FORGET + Duration::from_secs(61);
        for _ in 0..6 {
            throttle.begin(attempt("truc", "192.0.2.3"), now).unwrap();
        }
    }

    #[test]
    fn many_names_from_one_network_are_slowed_down_together() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for index in 0..21 {
            let (name, peer) = (format!("user-{index}"), format!("2001:db8::{index:x}"));
            assert!(throttle.begin(attempt(&name, &peer), now).is_ok(), "{index}");
        }
        assert!(throttle.begin(attempt("user-99", "2001:db8::ffff:1"), now).is_err());
        assert!(throttle.begin(attempt("user-99", "2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_strangers_push_nobody_out() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..6 {
            throttle.begin(attempt("truc", "192.0.2.1"), now).unwrap();
        }
        for index in 0..(MAX_KEYS as u32 + 50) {
            let name = format!("n-{index}");
            let peer = Some(IpAddr::V4((0x0a00_0000 + index).into()));
            let _ = throttle.begin(Attempt { account: &name, known: false, peer }, now);
        }
        assert_eq!((throttle.strangers.0.len(), throttle.peers.0.len()), (MAX_KEYS, MAX_KEYS));
        assert!(throttle.begin(attempt("truc", "198.51.100.1"), now).is_err());
    }
}
