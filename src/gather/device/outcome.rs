//! What became of a message: the closed set behind the label `result` of `ioc_mqtt_messages_total`.

use crate::metrics::{Metrics, Row, columns::broker_messages};

/// What became of one message (the last two: of a session).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Outcome {
    /// Understood and applied.
    Ok,
    /// Applied, but for at least one field whose value cannot be: text, out of range, not finite.
    BadValue,
    /// Not what its topic says: no JSON object, neither of the two status words, not UTF-8.
    Malformed,
    /// Larger than we read.
    Oversized,
    /// A retained message of a topic whose retained messages do not count.
    RetainedIgnored,
    /// From a device that no inventory lists.
    Unlisted,
    /// From a device that the inventory calls retired.
    Retired,
    /// On a topic that no pattern describes.
    UnknownTopic,
    /// The topic's agency is not the device's.
    AgencyMismatch,
    /// The topic's kind is not the device's.
    KindMismatch,
    /// Older than the silence that counts as offline, by a clock that is known to be right; or the death of a Sparkplug
    /// node's earlier life. It says nothing of now.
    Stale,
    /// Metrics of a Sparkplug node by aliases whose birth was not heard.
    Unborn,
    /// More than a device may send.
    RateLimited,
    /// Of an agency that another daemon watches.
    OtherShard,
    /// Overtaken in a full queue by a newer message of its topic.
    Coalesced,
    /// Refused by a full queue.
    Dropped,
    /// The broker's session was thrown away because a packet in it cannot be read; what it held is lost.
    SessionCleared,
    /// The broker refused a subscription.
    SubscribeRefused,
}

impl Outcome {
    pub const ALL: [Outcome; 18] = [
        Outcome::Ok,
        Outcome::BadValue,
        Outcome::Malformed,
        Outcome::Oversized,
        Outcome::RetainedIgnored,
        Outcome::Unlisted,
        Outcome::Retired,
        Outcome::UnknownTopic,
        Outcome::AgencyMismatch,
        Outcome::KindMismatch,
        Outcome::Stale,
        Outcome::Unborn,
        Outcome::RateLimited,
        Outcome::OtherShard,
        Outcome::Coalesced,
        Outcome::Dropped,
        Outcome::SessionCleared,
        Outcome::SubscribeRefused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::BadValue => "bad_value",
            Outcome::Malformed => "malformed",
            Outcome::Oversized => "oversized",
            Outcome::RetainedIgnored => "retained_ignored",
            Outcome::Unlisted => "unlisted",
            Outcome::Retired => "retired",
            Outcome::UnknownTopic => "unknown_topic",
            Outcome::AgencyMismatch => "agency_mismatch",
            Outcome::KindMismatch => "kind_mismatch",
            Outcome::Stale => "stale",
            Outcome::Unborn => "unborn",
            Outcome::RateLimited => "rate_limited",
            Outcome::OtherShard => "other_shard",
            Outcome::Coalesced => "coalesced",
            Outcome::Dropped => "dropped",
            Outcome::SessionCleared => "session_cleared",
            Outcome::SubscribeRefused => "subscribe_refused",
        }
    }
}

/// Counts of outcomes not yet in the metrics: one addition a batch instead of one a message.
#[derive(Debug, Default, Clone)]
pub struct Tally([u64; Outcome::ALL.len()]);

impl Tally {
    pub fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }
}

/// The counters of one broker. All results exist from the start, so that `rate` sees their first step.
pub struct Counters {
    rows: [Row; Outcome::ALL.len()],
}

impl Counters {
    pub fn new(metrics: &Metrics, agency: &str, broker: &str) -> Counters {
        let table = metrics.table(broker_messages::TABLE);
        let rows = Outcome::ALL.map(|outcome| table.row(&[agency, broker, outcome.as_str()]));
        let counters = Counters { rows };
        for row in counters.rows {
            table.add(row, broker_messages::MESSAGES, 0.0);
        }
        counters
    }

    /// Moves what was counted into the metrics.
    pub fn add(&self, metrics: &Metrics, tally: &mut Tally) {
        let table = metrics.table(broker_messages::TABLE);
        for (row, count) in self.rows.into_iter().zip(std::mem::take(tally).0) {
            if count > 0 {
                table.add(row, broker_messages::MESSAGES, count as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn every_outcome_stands_at_its_own_place() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{}", outcome.as_str());
        }
    }
}
