//! Section `incidents`: how alerts are grouped.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Incidents {
    /// Labels that make one incident. Default `agency`, `area`.
    pub group_by: Vec<String>,
    /// From the first alert to the first mail. Default 30 s.
    pub group_wait: Duration,
    /// Between mails about changes of one incident. Default 5 m.
    pub group_interval: Duration,
    /// An alert from outside that is not posted again for so long, and carries no end, is resolved. Default 5 m.
    pub resolve_timeout: Duration,
}
