//! A payment row as it comes from a feed.

use super::classify::{Fact, Status};
use crate::feed::{Cells, Need, Reason, Rejection};
use crate::org::Org;
use crate::store::micros;
use jiff::{SignedDuration, Timestamp};

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

/// One side's record of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    pub side: Side,
    pub txn_ref: String,
    /// Empty if the row does not say.
    pub agency: String,
    /// Dossier code; empty if the row does not say.
    pub dossier: String,
    /// Đồng, not negative.
    pub amount: i64,
    pub status: Status,
    pub at_us: i64,
    /// The transaction that this row gives back; empty: none.
    pub refund_of: String,
}

/// Clocks differ; a time further ahead than this is a mistake, and would keep a row waiting for ever.
const FUTURE: SignedDuration = SignedDuration::from_hours(24);
/// Longer keys are no keys.
const MAX_KEY: usize = 200;

pub(super) const COLUMNS: &[(&str, Need)] = &[
    ("txn_ref", Need::Required),
    ("dossier", Need::Optional),
    ("agency", Need::Optional),
    ("amount", Need::Required),
    ("status", Need::Required),
    ("time", Need::Required),
    ("refund_of", Need::Optional),
];

impl PaymentRow {
    pub(super) fn parse(side: Side, cells: &Cells<'_>, org: &Org, now: Timestamp) -> Result<PaymentRow, Rejection> {
        let key = |text: std::borrow::Cow<'_, str>, name: &str| {
            if text.len() > MAX_KEY {
                let detail = format!("{name} is longer than {MAX_KEY} bytes");
                return Err(Rejection::new(Reason::Missing, detail));
            }
            Ok(text.into_owned())
        };
        let txn_ref = key(cells.required(0)?, "txn_ref")?;
        let dossier = key(cells.text(1)?, "dossier")?;
        let refund_of = key(cells.text(6)?, "refund_of")?;
        let word = cells.status(4)?;
        let status = Status::parse(&word).ok_or_else(|| {
            let allowed = Status::ALL.map(Status::as_str).join(", ");
            let word = crate::feed::value::shorten(&word);
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
        let agency = resolve(org, &cells.text(2)?, at)?;
        Ok(PaymentRow { side, txn_ref, agency, dossier, amount, status, at_us: micros(at), refund_of })
    }

    pub(super) fn fact(&self) -> Fact {
        Fact { status: self.status, amount: self.amount, at_us: self.at_us }
    }

    /// Whether this row, read after `old`, is the side's latest word. Of equal times the one read last counts: files
    /// are corrected without a new time.
    pub(super) fn supersedes(&self, old: &PaymentRow) -> bool {
        self.at_us >= old.at_us
    }
}

fn resolve(org: &Org, text: &str, at: Timestamp) -> Result<String, Rejection> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let found = org.resolve(text, at).map(|id| id.to_string());
    found.ok_or_else(|| {
        let text = crate::feed::value::shorten(text);
        Rejection::new(Reason::Agency, format!("no agency has the id, code or name {text:?} at that time"))
    })
}
