//! Sparkplug nodes that were born a short while ago, and whose devices have a grace to be born after them.
//!
//! Source: Eclipse Sparkplug 3.0, by which the births of its devices follow a node's birth. A device that vanished while we
//! were away is told by nothing else if its silence says nothing (`offline_after: never`).

use super::super::message::Source;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a node's devices have time to be born after it: a birth that was lost leaves a gap in the count, is asked for and
/// sent again meanwhile.
pub(super) const GRACE: Duration = Duration::from_secs(120);
/// Nodes of one broker that are waited for; of more, the devices are not judged.
const MAX_BIRTHS: usize = 20_000;

/// By node, when it was born. One that is born again meanwhile is judged by its first birth, and then by its last: a node
/// that is born every minute does not keep the dead among the living.
#[derive(Default)]
pub(super) struct Births(HashMap<Source, Born>);

#[derive(Debug, Clone, Copy)]
struct Born {
    /// Of those not judged yet.
    first: Instant,
    last: Instant,
}

impl Births {
    pub fn add(&mut self, node: Source, now: Instant) {
        if let Some(born) = self.0.get_mut(&node) {
            born.last = now;
        } else if self.0.len() < MAX_BIRTHS {
            self.0.insert(node, Born { first: now, last: now });
        }
    }

    pub fn remove(&mut self, node: Source) {
        self.0.remove(&node);
    }

    pub fn clear(&mut self) {
        self.0 = HashMap::new();
    }

    /// Those whose devices had their time, and when they were born.
    pub fn take_due(&mut self, now: Instant) -> HashMap<Source, Instant> {
        let mut due = HashMap::new();
        let is_due = |born: Instant| now.saturating_duration_since(born) >= GRACE;
        self.0.retain(|node, born| {
            let Some(judged) = [born.last, born.first].into_iter().find(|time| is_due(*time)) else { return true };
            due.insert(*node, judged);
            let waits = judged < born.last;
            born.first = born.last;
            waits
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_is_judged_once_after_its_grace_and_their_number_is_bounded() {
        let t0 = Instant::now();
        let mut births = Births::default();
        births.add(1, t0);
        births.add(1, t0 + GRACE / 2);
        births.add(2, t0 + GRACE / 2);
        assert!(births.take_due(t0 + GRACE - Duration::from_secs(1)).is_empty());
        assert_eq!(births.take_due(t0 + GRACE), HashMap::from([(1, t0)]));
        assert!(births.take_due(t0 + GRACE).is_empty());
        births.remove(2);
        // By its second birth too: a device may have followed the first alone.
        assert_eq!(births.take_due(t0 + GRACE * 2), HashMap::from([(1, t0 + GRACE / 2)]));
        assert!(births.take_due(t0 + GRACE * 2).is_empty());
        for node in 0..MAX_BIRTHS as u64 + 10 {
            births.add(node, t0);
        }
        assert_eq!(births.0.len(), MAX_BIRTHS);
    }
}
