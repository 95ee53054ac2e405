//! Whether a device is there: a pure step of (what was known, what was heard or not heard, time).
//!
//! Silence is measured on the monotonic clock: a wall clock that is set must not turn a fleet off. Silence counts only
//! while we could have heard: it begins anew when our own connection to the broker comes back.

use crate::attribution::State;
use std::time::{Duration, Instant};

/// What is known about one device, and since when it has been waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    pub state: State,
    /// When it last gave a sign, or when we began to listen.
    pub since: Instant,
}

/// A sign of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It spoke, or was said to be online.
    Alive,
    /// It, or the broker in its name (last will), said that it is offline.
    Gone,
}

impl Presence {
    /// Nothing is known of it; listening begins at `now`.
    pub fn unknown(now: Instant) -> Presence {
        Presence { state: State::Unknown, since: now }
    }

    /// After a sign.
    pub fn hear(self, sign: Sign, now: Instant) -> Presence {
        let state = match sign {
            Sign::Alive => State::Up,
            Sign::Gone => State::Down,
        };
        Presence { state, since: now }
    }

    /// After silence until `now`. `offline_after: None` means that its silence says nothing; `link` is since when we
    /// have been connected to its broker, `None` while we are not.
    pub fn silence(self, offline_after: Option<Duration>, link: Option<Instant>, now: Instant) -> Presence {
        let Some(limit) = offline_after else { return self };
        let silent_for = |since: Instant| now.saturating_duration_since(since);
        let state = match link {
            _ if self.state == State::Down => State::Down,
            Some(up_since) if silent_for(self.since.max(up_since)) >= limit => State::Down,
            None if silent_for(self.since) >= limit => State::Unknown,
            _ => self.state,
        };
        Presence { state, ..self }
    }

    /// When [`Presence::silence`] has to be asked again; `None` if only a sign or a reconnect can change anything.
    pub fn due(self, offline_after: Option<Duration>, link: Option<Instant>) -> Option<Instant> {
        let limit = offline_after?;
        match (self.state, link) {
            (State::Down, _) | (State::Unknown, None) => None,
            (_, Some(up_since)) => self.since.max(up_since).checked_add(limit),
            (State::Up, None) => self.since.checked_add(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Down, Unknown, Up};

    const LIMIT: Option<Duration> = Some(Duration::from_secs(180));

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_start_a_device_is_unknown_until_it_speaks_or_its_time_has_passed() {
        let t0 = Instant::now();
        let link = Some(t0);
        let new = Presence::unknown(t0);
        assert_eq!(new.silence(LIMIT, link, at(t0, 179)).state, Unknown);
        assert_eq!(new.silence(LIMIT, link, at(t0, 180)).state, Down);
        assert_eq!(new.hear(Sign::Alive, at(t0, 10)).state, Up);
        assert_eq!(new.due(LIMIT, link), Some(at(t0, 180)));
        assert_eq!(new.silence(None, link, at(t0, 1_000_000)).state, Unknown, "never: silence says nothing");
        assert_eq!(new.due(None, link), None);
    }

    #[test]
    fn silence_counts_only_while_we_could_hear() {
        let t0 = Instant::now();
        let up = Presence::unknown(t0).hear(Sign::Alive, t0);
        // We lost the broker at 60 s: unknown, not down.
        let lost = up.silence(LIMIT, None, at(t0, 180));
        assert_eq!(lost.state, Unknown);
        assert_eq!(lost.due(LIMIT, None), None);
        // Back at 300 s: the device has its whole time again.
        let back = Some(at(t0, 300));
        assert_eq!(lost.due(LIMIT, back), Some(at(t0, 480)));
        assert_eq!(lost.silence(LIMIT, back, at(t0, 479)).state, Unknown);
        assert_eq!(lost.silence(LIMIT, back, at(t0, 480)).state, Down);
        // A short interruption makes nobody unknown.
        let blink = Some(at(t0, 70));
        assert_eq!(up.silence(LIMIT, blink, at(t0, 200)).state, Up);
        assert_eq!(up.silence(LIMIT, blink, at(t0, 250)).state, Down);
    }

    #[test]
    fn a_device_that_is_down_stays_down_until_it_speaks() {
        let t0 = Instant::now();
        let down = Presence::unknown(t0).hear(Sign::Gone, t0);
        assert_eq!(down.silence(LIMIT, None, at(t0, 1_000)).state, Down);
        assert_eq!(down.due(LIMIT, Some(t0)), None);
        assert_eq!(down.hear(Sign::Alive, at(t0, 1_001)).state, Up);
    }

    #[test]
    fn a_limit_beyond_the_clock_is_never() {
        let t0 = Instant::now();
        assert_eq!(Presence::unknown(t0).due(Some(Duration::MAX), Some(t0)), None);
    }
}
