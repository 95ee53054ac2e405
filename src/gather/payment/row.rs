//! A payment row as it comes from a feed.

use super::classify::{Fact, Status};
use crate::feed::{Cells, Need, Reason, Rejection, value};
use crate::org::Org;
use crate::store::micros;
use jiff::{SignedDuration, Timestamp};
use std::borrow::Cow;

/// Whose record it is. The label value `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Portal,
    Gateway,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Portal => "portal",
            Side::Gateway => "gateway",
        }
    }
}

/// How the dossier was filed, as far as fees ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channel {
    /// The row does not say.
    #[default]
    Unknown,
    Online,
    /// At a counter, by post.
    Other,
}

impl Channel {
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Unknown => "",
            Channel::Online => "online",
            Channel::Other => "other",
        }
    }

    /// A word that is not known says that it was not online: money is not refused over it.
    pub fn parse(text: &str) -> Channel {
        // As we write it: most rows say nothing.
        match text {
            "" => return Channel::Unknown,
            "online" => return Channel::Online,
            "other" => return Channel::Other,
            _ => {}
        }
        match value::fold(text).as_str() {
            "" => Channel::Unknown,
            "online" | "trực tuyến" | "nộp trực tuyến" => Channel::Online,
            _ => Channel::Other,
        }
    }
}

/// What a side knows of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Empty if the row does not say.
    pub agency: String,
    /// Dossier code; empty if the row does not say.
    pub dossier: String,
    /// Đồng, not negative.
    pub amount: i64,
    pub status: Status,
    pub at_us: i64,
    /// Key of the transaction that this one gives back; empty: none.
    pub refund_of: String,
    /// Folded; empty if the row does not say.
    pub procedure: String,
    pub channel: Channel,
}

/// One side's record of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    pub side: Side,
    pub key: String,
    pub record: Record,
}

/// Clocks differ; a time further ahead than this is a mistake, and would keep a row waiting for ever.
const FUTURE: SignedDuration = SignedDuration::from_hours(24);
/// Longer keys are no keys.
pub(super) const MAX_KEY: usize = 200;
/// Begins the key of a record without a reference.
pub(super) const NAMELESS: &str = "? ";

pub(super) const COLUMNS: &[(&str, Need)] = &[
    ("txn_ref", Need::Optional),
    ("dossier", Need::Optional),
    ("agency", Need::Optional),
    ("amount", Need::Required),
    ("status", Need::Required),
    ("time", Need::Required),
    ("refund_of", Need::Optional),
    ("procedure", Need::Optional),
    ("channel", Need::Optional),
];

/// The key of a transaction with a reference. A reference that begins like the key of one without gets another mark, so
/// that no two transactions share a key.
pub fn key_of(reference: &str) -> Cow<'_, str> {
    if reference.starts_with('?') { Cow::Owned(format!("?{reference}")) } else { Cow::Borrowed(reference) }
}

/// The key of a record without a reference: another row with the same dossier, amount and time is about the same payment.
pub(super) fn nameless_key(dossier: &str, amount: i64, at_us: i64) -> String {
    format!("{NAMELESS}{dossier} {amount} {at_us}")
}

/// The reference that a key stands for; empty if the transaction has none.
pub fn reference_of(key: &str) -> &str {
    if key.starts_with(NAMELESS) { "" } else { key.strip_prefix('?').unwrap_or(key) }
}

/// Whether both sides can have a record under this key.
pub(super) fn is_nameless(key: &str) -> bool {
    key.starts_with(NAMELESS)
}

pub(super) fn bounded(text: Cow<'_, str>, name: &str) -> Result<String, Rejection> {
    if text.len() > MAX_KEY {
        return Err(Rejection::new(Reason::Missing, format!("{name} is longer than {MAX_KEY} bytes")));
    }
    Ok(text.into_owned())
}

impl PaymentRow {
    pub(super) fn parse(side: Side, cells: &Cells<'_>, org: &Org, now: Timestamp) -> Result<PaymentRow, Rejection> {
        let reference = bounded(cells.text(0)?, "txn_ref")?;
        let dossier = bounded(cells.text(1)?, "dossier")?;
        if reference.is_empty() && dossier.is_empty() {
            return Err(Rejection::new(Reason::Missing, "txn_ref is empty, and so is dossier"));
        }
        let refund_of = bounded(cells.text(6)?, "refund_of")?;
        let word = cells.status(4)?;
        let status = Status::parse(&word).ok_or_else(|| {
            let allowed = Status::ALL.map(Status::as_str).join(", ");
            let word = value::shorten(&word);
            Rejection::new(Reason::Status, format!("{word:?} is not in status_map and none of {allowed}"))
        })?;
        let amount = match cells.amount(3)? {
            // Gateways write money that goes back as negative.
            negative if negative < 0 && (status.gave_back() || !refund_of.is_empty()) => negative.saturating_abs(),
            negative if negative < 0 => {
                return Err(Rejection::new(Reason::Amount, format!("{negative} is negative")));
            }
            amount => amount,
        };
        let at = cells.time(5)?;
        if at > now + FUTURE {
            return Err(Rejection::new(Reason::Time, format!("{at} is in the future")));
        }
        let at_us = micros(at);
        let agency = resolve(org, &cells.text(2)?, at)?;
        // A row that gives itself back is the payment in its last state.
        let refund_of = if refund_of == reference { String::new() } else { key_of(&refund_of).into_owned() };
        let key =
            if reference.is_empty() { nameless_key(&dossier, amount, at_us) } else { key_of(&reference).into_owned() };
        let procedure = value::fold(&bounded(cells.text(7)?, "procedure")?);
        let channel = Channel::parse(&cells.text(8)?);
        let record = Record { agency, dossier, amount, status, at_us, refund_of, procedure, channel };
        Ok(PaymentRow { side, key, record })
    }
}

impl Record {
    pub(super) fn fact(&self) -> Fact {
        Fact { status: self.status, amount: self.amount, at_us: self.at_us }
    }

    /// Whether this record is the side's latest word, and not `old`; see [`Fact::rank`]. What else they say decides last,
    /// so that of two records always the same one counts.
    pub(super) fn supersedes(&self, old: &Record) -> bool {
        let rank = |record: &Record| record.fact().rank();
        let texts = |record: &Record| {
            let Record { dossier, agency, refund_of, procedure, channel, .. } = record;
            [dossier.as_str(), agency, refund_of, procedure, channel.as_str()].map(str::to_owned)
        };
        rank(self).cmp(&rank(old)).then_with(|| texts(self).cmp(&texts(old))).is_gt()
    }
}

pub(super) fn resolve(org: &Org, text: &str, at: Timestamp) -> Result<String, Rejection> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let found = org.resolve(text, at).map(|id| id.to_string());
    found.ok_or_else(|| {
        let text = value::shorten(text);
        Rejection::new(Reason::Agency, format!("no agency has the id, code or name {text:?} at that time"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reference_is_taken_for_a_record_without_one() {
        for reference in ["T1", "?", "? D-1 5 7", "?? D", "Mã 1"] {
            let key = key_of(reference);
            assert_eq!(reference_of(&key), reference);
            assert!(!is_nameless(&key), "{reference}");
        }
        let key = nameless_key("D-1", 5, 7);
        assert!(is_nameless(&key) && reference_of(&key).is_empty(), "{key}");
    }
}
