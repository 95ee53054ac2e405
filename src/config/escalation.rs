//! Section `escalation`: who is told of an incident, in which order and after how long.

use super::Id;
use crate::matcher::Matcher;
use std::time::Duration;

/// For the incidents it matches: the first policy that does is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// All must match. Of an incident, the labels `agency`, `area`, `severity` and those it is grouped by.
    pub matchers: Vec<Matcher>,
    /// Nobody is told outside working hours: what is due waits for the next working hour.
    pub working_hours: bool,
    /// At least one; `after` ascends.
    pub steps: Vec<Step>,
    /// Everybody who was told is told again after so long while nobody acknowledges. `None`: never.
    pub repeat: Option<Duration>,
    /// An acknowledgement holds for so long.
    pub ack_expires: Duration,
}

/// People who are told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From the first step, whose time this is zero.
    pub after: Duration,
    pub notify: Vec<Target>,
    /// How many of them must acknowledge before the escalation stops; at least 1. Default 1 (`any`).
    pub acknowledge: Acknowledge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// So many different people of those who were told.
    AtLeast(usize),
    /// Everybody whom this step told.
    All,
}

/// An office, to be resolved to a person as of the time; or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Agencies up from the incident's (0: its own), and the office there.
    Office {
        up: u8,
        office: Office,
    },
    Person(Id),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    Duty,
    Leader,
    Deputy,
}

impl Policy {
    /// The first that matches.
    pub fn for_incident<'p>(policies: &'p [Policy], labels: &std::collections::BTreeMap<String, String>) -> &'p Policy {
        policies.iter().find(|policy| crate::matcher::all(&policy.matchers, labels)).unwrap_or(&policies[0])
    }
}

/// What no policy matches.
pub fn defaults() -> Vec<Policy> {
    let own = |office| Target::Office { up: 0, office };
    let step = |after, notify| Step { after, notify, acknowledge: Acknowledge::AtLeast(1) };
    let hour = Duration::from_secs(3600);
    vec![
        Policy {
            matchers: Matcher::parse("severity=critical").into_iter().collect(),
            working_hours: false,
            steps: vec![
                step(Duration::ZERO, vec![own(Office::Duty), own(Office::Leader)]),
                step(hour, vec![Target::Office { up: 1, office: Office::Leader }]),
            ],
            repeat: Some(4 * hour),
            ack_expires: 8 * hour,
        },
        Policy {
            matchers: Vec::new(),
            working_hours: false,
            steps: vec![step(Duration::ZERO, vec![own(Office::Duty)]), step(4 * hour, vec![own(Office::Leader)])],
            repeat: None,
            ack_expires: 8 * hour,
        },
    ]
}
