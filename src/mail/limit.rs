//! How many mails about incidents one person gets: a pure rule of (limit, what was spent, time).
//!
//! Half of the allowance goes as it comes; of the other half one mail is allowed after every equal part of the period. So
//! no period holds more than the limit, and what is put off into a summary waits for one such part at most, not for the
//! end of the period.

use crate::config::email::Limit;
use jiff::{SignedDuration, Timestamp};

impl Limit {
    /// How many may go at once.
    fn burst(self) -> u32 {
        self.mails.div_ceil(2)
    }

    /// The time after which one more may go: what a mail waits for at most.
    pub fn part(self) -> SignedDuration {
        let parts = self.mails.saturating_sub(self.burst()).max(1);
        SignedDuration::try_from(self.per / parts).unwrap_or(SignedDuration::MAX)
    }

    /// One more mail at `now`. `spent` is what the last one left: the time at which the whole burst is allowed again.
    /// Returns the new value of that, or when a mail may go.
    pub fn spend(self, spent: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Timestamp> {
        let part = self.part();
        let later = |time: Timestamp, parts: u32| {
            let by = part.checked_mul(i32::try_from(parts).unwrap_or(i32::MAX)).unwrap_or(part);
            time.saturating_add(by).unwrap_or(time)
        };
        // A clock that was set back must not shut the door for as long.
        let spent = spent.map_or(now, |spent| spent.clamp(now, later(now, self.burst())));
        let whole = later(now, self.burst() - 1);
        if spent <= whole {
            return Ok(later(spent, 1));
        }
        Err(now.saturating_add(spent.duration_since(whole)).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn half_goes_at_once_and_then_one_each_part() {
        let limit = Limit { mails: 20, per: Duration::from_secs(3_600) };
        let mut spent = None;
        for _ in 0..10 {
            spent = Some(limit.spend(spent, at(0)).unwrap());
        }
        assert_eq!(limit.spend(spent, at(0)), Err(at(360)));
        assert_eq!(limit.spend(spent, at(300)), Err(at(360)));
        spent = Some(limit.spend(spent, at(360)).unwrap());
        assert_eq!(limit.spend(spent, at(360)), Err(at(720)));
        // Long after, and with a clock that went back.
        assert!((0..10).all(|_| limit.spend(spent, at(90_000)).is_ok()));
        assert_eq!(limit.spend(spent, at(-90_000)), Err(at(-90_000 + 360)));
    }

    proptest! {
        /// Whoever asks whenever: no period holds more than the limit, and nobody waits for longer than a part.
        #[test]
        fn no_period_holds_more(mails in 2_u32..40, gaps in prop::collection::vec(0_i64..400, 1..200)) {
            let limit = Limit { mails, per: Duration::from_secs(3_600) };
            let (mut spent, mut now, mut sent) = (None, 0, Vec::new());
            for gap in gaps {
                now += gap;
                match limit.spend(spent, at(now)) {
                    Ok(left) => {
                        spent = Some(left);
                        sent.push(now);
                    }
                    Err(allowed) => {
                        prop_assert!(at(now) < allowed && allowed.duration_since(at(now)) <= limit.part());
                        prop_assert!(limit.spend(spent, allowed).is_ok());
                    }
                }
            }
            for (index, first) in sent.iter().enumerate() {
                let within = sent[index..].iter().filter(|time| *time - first < 3_600).count();
                prop_assert!(within <= mails as usize, "{within} in an hour");
            }
        }
    }
}
