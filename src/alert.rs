//! An alert as it travels: from the ruler or from another program's POST to the incidents. It does not say where it
//! came from.

use jiff::Timestamp;
use std::collections::BTreeMap;

/// One firing or resolved rule instance, identified by its labels, as in Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// With `alertname`; without empty values.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it ended; in the future or `None` while it fires.
    pub ends_at: Option<Timestamp>,
    /// Where its expression can be looked at; may be empty.
    pub generator_url: String,
    /// Its sender named no end: it ends unless it is sent again in time.
    pub end_is_assumed: bool,
}

impl Alert {
    pub fn is_resolved(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }

    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Identifies the alert: equal labels, equal fingerprint. 16 hexadecimal digits (FNV-1a over names and values).
    pub fn fingerprint(&self) -> String {
        const SEPARATOR: u8 = 0xff;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut feed = |bytes: &[u8]| {
            for byte in bytes.iter().chain([&SEPARATOR]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, value) in &self.labels {
            feed(name.as_bytes());
            feed(value.as_bytes());
        }
        format!("{hash:016x}")
    }
}
