//! Times of which there are as many as devices, in half the room that an [`Instant`] or an optional [`Timestamp`] takes.

use jiff::Timestamp;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// From where moments are counted; a process has one.
static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment on the monotonic clock: nanoseconds since the program first asked, negative before. Good for 292 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl From<Instant> for Moment {
    /// What is centuries away is as far away as can be said.
    fn from(instant: Instant) -> Moment {
        let nanoseconds = |length: Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(*BASE) {
            Some(after) => Moment(nanoseconds(after)),
            None => Moment(-nanoseconds(BASE.duration_since(instant))),
        }
    }
}

impl Moment {
    pub fn instant(self) -> Instant {
        let length = Duration::from_nanos(self.0.unsigned_abs());
        let instant = if self.0 < 0 { BASE.checked_sub(length) } else { BASE.checked_add(length) };
        instant.unwrap_or(*BASE)
    }
}

/// When something was, if ever, on the wall clock: nanoseconds since 1970. Good from 1677 to 2262. Never is before every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Once(i64);

impl Once {
    pub const NEVER: Once = Once(i64::MIN);

    pub fn time(self) -> Option<Timestamp> {
        if self == Once::NEVER { None } else { Timestamp::from_nanosecond(self.0.into()).ok() }
    }
}

impl From<Timestamp> for Once {
    fn from(time: Timestamp) -> Once {
        let bounded = time.as_nanosecond().clamp((i64::MIN + 1).into(), i64::MAX.into());
        Once(bounded as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_instant_that_it_was_made_of() {
        let now = Instant::now();
        let century = Duration::from_secs(100 * 366 * 86_400);
        let mut instants = vec![now, now + Duration::from_nanos(1), now + century];
        instants.extend(now.checked_sub(Duration::from_millis(1)));
        for instant in &instants {
            assert_eq!(Moment::from(*instant).instant(), *instant);
        }
        instants.sort();
        assert!(instants.is_sorted_by_key(|instant| Moment::from(*instant)));
        assert!(Moment::from(now + 10 * century) > Moment::from(now + century), "far away, but no panic");
    }

    #[test]
    fn a_time_loses_nothing_and_never_is_none() {
        let time: Timestamp = "2026-11-23T01:02:03.123456789Z".parse().unwrap_or_else(|error| panic!("{error}"));
        for time in [time, Timestamp::UNIX_EPOCH] {
            assert_eq!(Once::from(time).time(), Some(time));
        }
        assert_eq!(Once::NEVER.time(), None);
        assert!(Once::NEVER < Once::from(Timestamp::MIN));
        assert!(Once::from(Timestamp::MAX).time().is_some());
    }
}
