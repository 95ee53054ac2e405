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

/// How long a device whose silence says nothing keeps its state while we cannot hear it: a short interruption makes
/// nobody unknown.
const INTERRUPTION: Duration = Duration::from_secs(180);

/// A device that comes back so soon after it had gone comes and goes: a flap.
const FLAP_WITHIN: Duration = Duration::from_secs(3_600);

/// Our connection to a device's broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Since then.
    Up(Instant),
    /// Lost then; `None`: there was none yet.
    Away(Option<Instant>),
}

/// A sign of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It spoke, or was said to be online.
    Alive,
    /// It, or the broker in its name (last will), said that it is offline.
    Gone,
}

impl Contact {
    /// Of two brokers, over either of which a device may speak: silence counts while both are there.
    pub fn and(self, other: Contact) -> Contact {
        match (self, other) {
            (Contact::Up(one), Contact::Up(other)) => Contact::Up(one.max(other)),
            (Contact::Up(_), away) | (away, Contact::Up(_)) => away,
            (Contact::Away(one), Contact::Away(other)) => {
                Contact::Away(one.zip(other).map(|(one, other)| one.min(other)))
            }
        }
    }
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

    /// Whether this sign ends an outage that was short. Only for what was heard before: of another device nobody knows when
    /// it went.
    pub fn is_flap(self, sign: Sign, now: Instant) -> bool {
        let gone_for = now.saturating_duration_since(self.since);
        self.state == State::Down && sign == Sign::Alive && gone_for < FLAP_WITHIN
    }

    /// After silence until `now`. `offline_after: None` means that its silence says nothing: what it last said holds, but
    /// only while we would hear it say something else.
    pub fn silence(self, offline_after: Option<Duration>, contact: Contact, now: Instant) -> Presence {
        let silent_for = |since: Instant| now.saturating_duration_since(since);
        let state = match (offline_after, contact) {
            _ if self.state == State::Down => State::Down,
            (Some(limit), Contact::Up(up_since)) if silent_for(self.since.max(up_since)) >= limit => State::Down,
            (Some(limit), Contact::Away(_)) if silent_for(self.since) >= limit => State::Unknown,
            (None, Contact::Away(Some(lost))) if silent_for(lost) >= INTERRUPTION => State::Unknown,
            _ => self.state,
        };
        Presence { state, ..self }
    }

    /// When [`Presence::silence`] has to be asked again; `None` if only a sign or a reconnect can change anything.
    pub fn due(self, offline_after: Option<Duration>, contact: Contact) -> Option<Instant> {
        match (self.state, offline_after, contact) {
            (State::Down, ..)
            | (State::Unknown, _, Contact::Away(_))
            | (_, None, Contact::Up(_) | Contact::Away(None)) => None,
            (_, Some(limit), Contact::Up(up_since)) => self.since.max(up_since).checked_add(limit),
            (State::Up, Some(limit), Contact::Away(_)) => self.since.checked_add(limit),
            (State::Up, None, Contact::Away(Some(lost))) => lost.checked_add(INTERRUPTION),
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
        let link = Contact::Up(t0);
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
        let away = Contact::Away(Some(at(t0, 60)));
        let lost = up.silence(LIMIT, away, at(t0, 180));
        assert_eq!(lost.state, Unknown);
        assert_eq!(lost.due(LIMIT, away), None);
        // Back at 300 s: the device has its whole time again.
        let back = Contact::Up(at(t0, 300));
        assert_eq!(lost.due(LIMIT, back), Some(at(t0, 480)));
        assert_eq!(lost.silence(LIMIT, back, at(t0, 479)).state, Unknown);
        assert_eq!(lost.silence(LIMIT, back, at(t0, 480)).state, Down);
        // A short interruption makes nobody unknown.
        let blink = Contact::Up(at(t0, 70));
        assert_eq!(up.silence(LIMIT, blink, at(t0, 200)).state, Up);
        assert_eq!(up.silence(LIMIT, blink, at(t0, 250)).state, Down);
    }

    #[test]
    fn what_speaks_only_on_change_is_known_only_while_we_listen() {
        let t0 = Instant::now();
        let up = Presence::unknown(t0).hear(Sign::Alive, t0);
        assert_eq!(up.silence(None, Contact::Up(t0), at(t0, 1_000_000)).state, Up);
        assert_eq!(up.due(None, Contact::Up(t0)), None);
        let away = Contact::Away(Some(at(t0, 5_000)));
        assert_eq!(up.due(None, away), Some(at(t0, 5_180)));
        assert_eq!(up.silence(None, away, at(t0, 5_179)).state, Up, "a short interruption");
        let lost = up.silence(None, away, at(t0, 5_180));
        assert_eq!((lost.state, lost.due(None, away)), (Unknown, None));
        // Back: it may have changed meanwhile, and tells with its retained status or its next word.
        assert_eq!(lost.silence(None, Contact::Up(at(t0, 6_000)), at(t0, 6_001)).state, Unknown);
        assert_eq!(lost.hear(Sign::Alive, at(t0, 6_002)).state, Up);
        let down = up.hear(Sign::Gone, at(t0, 10));
        assert_eq!(down.silence(None, away, at(t0, 9_000)).state, Down);
    }

    #[test]
    fn a_device_that_is_down_stays_down_until_it_speaks() {
        let t0 = Instant::now();
        let down = Presence::unknown(t0).hear(Sign::Gone, t0);
        assert_eq!(down.silence(LIMIT, Contact::Away(None), at(t0, 1_000)).state, Down);
        assert_eq!(down.due(LIMIT, Contact::Up(t0)), None);
        assert_eq!(down.hear(Sign::Alive, at(t0, 1_001)).state, Up);
    }

    #[test]
    fn a_short_outage_is_a_flap_when_it_ends() {
        let t0 = Instant::now();
        let down = Presence::unknown(t0).hear(Sign::Alive, t0).silence(LIMIT, Contact::Up(t0), at(t0, 180));
        assert_eq!(down.state, Down);
        assert!(down.is_flap(Sign::Alive, at(t0, 3_599)));
        assert!(!down.is_flap(Sign::Alive, at(t0, 3_600)), "an outage, and it is over");
        assert!(!down.is_flap(Sign::Gone, at(t0, 200)));
        assert!(!down.hear(Sign::Alive, at(t0, 200)).is_flap(Sign::Alive, at(t0, 201)));
        assert!(!Presence::unknown(t0).is_flap(Sign::Alive, t0));
    }

    #[test]
    fn a_limit_beyond_the_clock_is_never() {
        let t0 = Instant::now();
        assert_eq!(Presence::unknown(t0).due(Some(Duration::MAX), Contact::Up(t0)), None);
    }
}
